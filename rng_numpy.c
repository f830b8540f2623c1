/* rng_numpy.c - floor 0: NumPy's normals, for programs that draw their noise with it.
 *
 * Two families. numpy.random.RandomState (np.random.seed, np.random.randn): mt19937 and Marsaglia's polar method
 * [Marsaglia & Bray 1964]. numpy.random.default_rng: a SeedSequence fills a PCG64 [O'Neill 2014] from which a ziggurat
 * of 256 layers [Marsaglia & Tsang 2000] makes normals, in float64 or in float32. Values are equal bit for bit where
 * log, log1p and exp are; only about one number in a hundred of the ziggurat uses them. */
#include "rng.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* --------------------------------------------------------------------------------- RandomState */

static double uniform_legacy(sd_rng *r)
{
    uint32_t a = sd_rng_u32(r) >> 5, b = sd_rng_u32(r) >> 6;
    return ((double)a * 67108864.0 + (double)b) / 9007199254740992.0;   /* (a 2^26 + b) / 2^53 */
}

/* legacy_gauss: a point in the unit circle gives two normals; the second is returned first, the first waits. */
double sd_numpy_normal(sd_rng *r)
{
    if (r->has_normal) {
        r->has_normal = 0;
        return r->normal;
    }
    double x, y, square;
    do {
        x = 2.0 * uniform_legacy(r) - 1.0;
        y = 2.0 * uniform_legacy(r) - 1.0;
        square = x * x + y * y;
    } while (square >= 1.0 || square == 0.0);
    double f = sqrt(-2.0 * log(square) / square);
    r->normal = f * x;
    r->has_normal = 1;
    return f * y;
}

/* -------------------------------------------------------------------------------- SeedSequence */

/* O'Neill's seed_seq_fe: every word is hashed, with a constant that changes each time, and mixed into all others. */
static uint32_t hash(uint32_t value, uint32_t *constant, uint32_t factor)
{
    value ^= *constant;
    *constant *= factor;
    value *= *constant;
    return value ^ value >> 16;
}

static uint32_t mix(uint32_t a, uint32_t b)
{
    uint32_t x = 0xca01f9ddu * a - 0x4973f715u * b;
    return x ^ x >> 16;
}

/* A Python integer as NumPy cuts it: low word first, no leading zeros, 0 is one word. */
static size_t words_of(uint32_t words[2], uint64_t x)
{
    words[0] = (uint32_t)x;
    words[1] = (uint32_t)(x >> 32);
    return words[1] ? 2 : 1;
}

void sd_seedseq_init(sd_seedseq *s, size_t pool_size, uint64_t entropy, const uint64_t *spawn_key, size_t keys)
{
    uint32_t constant = 0x43b0d7e5u, word[2];
    const uint32_t factor = 0x931e8875u;
    size_t n = words_of(word, entropy);
    s->size = pool_size < 4 ? 4 : pool_size > SD_SEED_POOL ? SD_SEED_POOL : pool_size;   /* NumPy refuses less than 4 */
    for (size_t i = 0; i < s->size; i++) s->pool[i] = hash(i < n ? word[i] : 0, &constant, factor);
    for (size_t from = 0; from < s->size; from++)
        for (size_t to = 0; to < s->size; to++)
            if (from != to) s->pool[to] = mix(s->pool[to], hash(s->pool[from], &constant, factor));
    for (size_t k = 0; k < keys; k++) {   /* spawn keys come after entropy padded to the pool's size */
        n = words_of(word, spawn_key[k]);
        for (size_t i = 0; i < n; i++)
            for (size_t to = 0; to < s->size; to++)
                s->pool[to] = mix(s->pool[to], hash(word[i], &constant, factor));
    }
}

void sd_seedseq_words(const sd_seedseq *s, uint32_t *out, size_t n)
{
    uint32_t constant = 0x8b51f9ddu;
    for (size_t i = 0; i < n; i++) out[i] = hash(s->pool[i % s->size], &constant, 0x58f38dedu);
}

/* --------------------------------------------------------------------------------------- PCG64 */

/* C99 has no 128-bit integers: a * b by halves. */
static void multiply_64(uint64_t a, uint64_t b, uint64_t *high, uint64_t *low)
{
    uint64_t al = a & 0xffffffffu, ah = a >> 32, bl = b & 0xffffffffu, bh = b >> 32;
    uint64_t cross = ah * bl + (al * bl >> 32), other = al * bh + (cross & 0xffffffffu);
    *high = ah * bh + (cross >> 32) + (other >> 32);
    *low = a * b;
}

static void add_128(sd_pcg64 *r, uint64_t high, uint64_t low)
{
    r->low += low;
    r->high += high + (r->low < low);
}

/* state = state * multiplier + increment (mod 2^128) */
static void pcg64_step(sd_pcg64 *r)
{
    const uint64_t mh = UINT64_C(2549297995355413924), ml = UINT64_C(4865540595714422341);
    uint64_t high, low;
    multiply_64(r->low, ml, &high, &low);
    r->high = high + r->high * ml + r->low * mh;
    r->low = low;
    add_128(r, r->step_high, r->step_low);
}

void sd_pcg64_seed(sd_pcg64 *r, uint64_t seed)
{
    sd_seedseq s;
    uint32_t half[8];
    uint64_t word[4];   /* state high, low; sequence high, low */
    sd_seedseq_init(&s, 4, seed, NULL, 0);
    sd_seedseq_words(&s, half, 8);
    for (size_t i = 0; i < 4; i++) word[i] = half[2 * i] | (uint64_t)half[2 * i + 1] << 32;
    memset(r, 0, sizeof *r);
    r->step_high = word[2] << 1 | word[3] >> 63;
    r->step_low = word[3] << 1 | 1;
    pcg64_step(r);
    add_128(r, word[0], word[1]);
    pcg64_step(r);
}

/* The step comes first; then XSL-RR: both halves XORed, rotated right by the topmost six bits. */
uint64_t sd_pcg64_u64(sd_pcg64 *r)
{
    pcg64_step(r);
    uint64_t x = r->high ^ r->low;
    unsigned turn = (unsigned)(r->high >> 58);
    return x >> turn | x << (64 - turn) % 64;
}

/* The low half comes first; the high half waits for the next 32-bit draw, even if 64-bit draws come between. */
uint32_t sd_pcg64_u32(sd_pcg64 *r)
{
    if (r->has_spare) {
        r->has_spare = 0;
        return r->spare;
    }
    uint64_t x = sd_pcg64_u64(r);
    r->spare = (uint32_t)(x >> 32);
    r->has_spare = 1;
    return (uint32_t)x;
}

static double uniform_64(sd_pcg64 *r) { return (double)(sd_pcg64_u64(r) >> 11) * 0x1p-53; }
static float uniform_32(sd_pcg64 *r) { return (float)(sd_pcg64_u32(r) >> 8) * 0x1p-24f; }

/* ------------------------------------------------------------------------------------- ziggurat */

/* Right edges of the 256 layers, each of area A = 0.004928673233974652 under f(x) = exp(-x^2/2). edge[255] = r is where
 * the tail begins; downwards edge[i] = sqrt(-2 ln(A / edge[i+1] + f(edge[i+1]))); edge[0] = A / f(r) is the width of
 * a rectangle with the area of the layer that has the tail. They are data here because the recursion in double differs
 * from NumPy's values in the last bits, and from one C library to another. */
static const double edge[256] = {
    0x1.f493b7815d979p1, 0x1.b8d0be3fdf6c6p-3, 0x1.250af3c2c5bb4p-2, 0x1.57cb938443b61p-2,
    0x1.801fce82fa70cp-2, 0x1.a230c2e4cd0bcp-2, 0x1.c004d2f3861f7p-2, 0x1.dac2f5a747274p-2,
    0x1.f32482d4cd5c3p-2, 0x1.04d32278ebbadp-1, 0x1.0f5053b025d43p-1, 0x1.192a697413677p-1,
    0x1.227a28f7a1af5p-1, 0x1.2b52e3863d880p-1, 0x1.33c3fc05791f5p-1, 0x1.3bd9ec1a2b12fp-1,
    0x1.439ef8dff9b55p-1, 0x1.4b1bb363dfea7p-1, 0x1.52575621ad374p-1, 0x1.59580a707ce96p-1,
    0x1.60231cfd97eeap-1, 0x1.66bd261a37c3dp-1, 0x1.6d2a292000570p-1, 0x1.736dad346f8a6p-1,
    0x1.798ad10b32a77p-1, 0x1.7f845ad46f543p-1, 0x1.855cc53430a77p-1, 0x1.8b1649e7b769ap-1,
    0x1.90b2ea94ecf98p-1, 0x1.96347822c1eeap-1, 0x1.9b9c98e38c546p-1, 0x1.a0eccdca4a72cp-1,
    0x1.a62676d77cd59p-1, 0x1.ab4ad6e101630p-1, 0x1.b05b16d136c9cp-1, 0x1.b558487427a29p-1,
    0x1.ba4368e529f3ap-1, 0x1.bf1d62abf8232p-1, 0x1.c3e70f9594ef3p-1, 0x1.c8a13a5323b61p-1,
    0x1.cd4c9fe72268bp-1, 0x1.d1e9f0e80b748p-1, 0x1.d679d29e41f10p-1, 0x1.dafce0023b8c3p-1,
    0x1.df73aa9f17653p-1, 0x1.e3debb5d2edfep-1, 0x1.e83e9337a6f00p-1, 0x1.ec93abdf982cep-1,
    0x1.f0de784f06226p-1, 0x1.f51f654d8f688p-1, 0x1.f956d9e87d7aep-1, 0x1.fd8537dfa2eacp-1,
    0x1.00d56e04234ecp0, 0x1.02e40f5398f9ap0, 0x1.04eea9e16a5fcp0, 0x1.06f565b72a010p0,
    0x1.08f869071f40bp0, 0x1.0af7d84bc6113p0, 0x1.0cf3d664bcc7fp0, 0x1.0eec84b16086bp0,
    0x1.10e20329515eep0, 0x1.12d4707310fbep0, 0x1.14c3e9f8e9141p0, 0x1.16b08bfc4201ep0,
    0x1.189a71a78da34p0, 0x1.1a81b51ee6d88p0, 0x1.1c666f8f82acbp0, 0x1.1e48b93e0d42ep0,
    0x1.2028a9940a09fp0, 0x1.2206572c4c6e9p0, 0x1.23e1d7de9c31fp0, 0x1.25bb40ca96bfbp0,
    0x1.2792a661dd37fp0, 0x1.29681c719d71bp0, 0x1.2b3bb62b82edap0, 0x1.2d0d862e1b853p0,
    0x1.2edd9e8cba98ep0, 0x1.30ac10d6e48d7p0, 0x1.3278ee1f4b930p0, 0x1.3444470265ea1p0,
    0x1.360e2baca52d5p0, 0x1.37d6abe05586ap0, 0x1.399dd6fb2b264p0, 0x1.3b63bbfb83d03p0,
    0x1.3d28698561de0p0, 0x1.3eebede725a83p0, 0x1.40ae571e09e74p0, 0x1.426fb2da6745dp0,
    0x1.44300e83c30a4p0, 0x1.45ef773cac75dp0, 0x1.47adf9e66c336p0, 0x1.496ba32488f2fp0,
    0x1.4b287f602415dp0, 0x1.4ce49acb311dcp0, 0x1.4ea001638a605p0, 0x1.505abef5e5562p0,
    0x1.5214df20a8b5ap0, 0x1.53ce6d56a664fp0, 0x1.558774e1bb2c8p0, 0x1.574000e555f78p0,
    0x1.58f81c60e8514p0, 0x1.5aafd23241b59p0, 0x1.5c672d17d733dp0, 0x1.5e1e37b2f8cd3p0,
    0x1.5fd4fc89f5e38p0, 0x1.618b860a31fc3p0, 0x1.6341de8a2b0a2p0, 0x1.64f8104b7260bp0,
    0x1.66ae257c99672p0, 0x1.6864283b13137p0, 0x1.6a1a22950b2b1p0, 0x1.6bd01e8b343bbp0,
    0x1.6d8626128d352p0, 0x1.6f3c43161f854p0, 0x1.70f27f78b68ebp0, 0x1.72a8e516914c6p0,
    0x1.745f7dc70eedcp0, 0x1.7616535e5731fp0, 0x1.77cd6faeff449p0, 0x1.7984dc8babd93p0,
    0x1.7b3ca3c8b1409p0, 0x1.7cf4cf3db22fbp0, 0x1.7ead68c73dee7p0, 0x1.80667a486ea1fp0,
    0x1.82200dac88676p0, 0x1.83da2ce899f15p0, 0x1.8594e1fd1f5bdp0, 0x1.875036f7a7ec5p0,
    0x1.890c35f47f72dp0, 0x1.8ac8e9205c043p0, 0x1.8c865aba10c9cp0, 0x1.8e44951446a27p0,
    0x1.9003a2973b58fp0, 0x1.91c38dc288347p0, 0x1.9384612ef0afcp0, 0x1.954627903a28ap0,
    0x1.9708ebb70d5eep0, 0x1.98ccb892e2a31p0, 0x1.9a919933f99bfp0, 0x1.9c5798cd5d92cp0,
    0x1.9e1ec2b6f7411p0, 0x1.9fe7226fad24ap0, 0x1.a1b0c39f93692p0, 0x1.a37bb21a2c85bp0,
    0x1.a547f9e0bbb88p0, 0x1.a715a724aa9a4p0, 0x1.a8e4c64a0313dp0, 0x1.aab563e9ff108p0,
    0x1.ac878cd5af5cep0, 0x1.ae5b4e18bb336p0, 0x1.b030b4fc3a11ap0, 0x1.b207cf09a985bp0,
    0x1.b3e0aa0e00c00p0, 0x1.b5bb541ce3d03p0, 0x1.b797db93f8927p0, 0x1.b9764f1e5f73cp0,
    0x1.bb56bdb85256ep0, 0x1.bd3936b2ec0a2p0, 0x1.bf1dc9b81ae83p0, 0x1.c10486cec16a0p0,
    0x1.c2ed7e5f07a2dp0, 0x1.c4d8c136e0d1cp0, 0x1.c6c6608ec8705p0, 0x1.c8b66e0eba617p0,
    0x1.caa8fbd36a2abp0, 0x1.cc9e1c73bd690p0, 0x1.ce95e3068e037p0, 0x1.d0906328b8f6ep0,
    0x1.d28db1037ef20p0, 0x1.d48de1533c647p0, 0x1.d691096e7f123p0, 0x1.d8973f4d7fba5p0,
    0x1.daa0999206e70p0, 0x1.dcad2f8fc490ep0, 0x1.debd195522e37p0, 0x1.e0d06fb49d21cp0,
    0x1.e2e74c4ea46f6p0, 0x1.e501c99c1d188p0, 0x1.e72002f97fe25p0, 0x1.e94214b2abf0ap0,
    0x1.eb681c0f76f08p0, 0x1.ed9237610a73ap0, 0x1.efc086101eca9p0, 0x1.f1f328ac25321p0,
    0x1.f42a40fb74d6dp0, 0x1.f665f20c90168p0, 0x1.f8a6604899782p0, 0x1.faebb187122bfp0,
    0x1.fd360d22fe785p0, 0x1.ff859c118f60bp0, 0x1.00ed447d3a075p1, 0x1.021a8028fc947p1,
    0x1.034a983a902abp1, 0x1.047da4e3ef5c7p1, 0x1.05b3bf6adb37ep1, 0x1.06ed023a72668p1,
    0x1.082988f632e17p1, 0x1.0969708e8a254p1, 0x1.0aacd7571c0c4p1, 0x1.0bf3dd1eed448p1,
    0x1.0d3ea34aa3d30p1, 0x1.0e8d4cf116593p1, 0x1.0fdffefa69fb6p1, 0x1.1136e04207041p1,
    0x1.129219bbb5d35p1, 0x1.13f1d69c4096dp1, 0x1.1556448602e3bp1, 0x1.16bf93b9deef3p1,
    0x1.182df74d21261p1, 0x1.19a1a564eebacp1, 0x1.1b1ad777f2f8ep1, 0x1.1c99ca971a694p1,
    0x1.1e1ebfbe4ae39p1, 0x1.1fa9fc2e2d901p1, 0x1.213bc9d04cc81p1, 0x1.22d477a6fd3eep1,
    0x1.24745a4ac9c24p1, 0x1.261bcc77658e0p1, 0x1.27cb2faa8592ep1, 0x1.2982ecd770e78p1,
    0x1.2b437532a0a52p1, 0x1.2d0d43196db97p1, 0x1.2ee0db1a978f5p1, 0x1.30becd256aeeep1,
    0x1.32a7b5e68a4a3p1, 0x1.349c405ae12a3p1, 0x1.369d27a33a840p1, 0x1.38ab39256410ap1,
    0x1.3ac7570ae88fap1, 0x1.3cf27b31704a6p1, 0x1.3f2dbaa60f475p1, 0x1.417a49cb9e5dap1,
    0x1.43d9815545e94p1, 0x1.464ce44a73a15p1, 0x1.48d62759c43bcp1, 0x1.4b7739d6b5a27p1,
    0x1.4e3250dcd8902p1, 0x1.5109f53e9ac41p1, 0x1.54011523a7e42p1, 0x1.571b1a94ae41bp1,
    0x1.5a5c08b718dd9p1, 0x1.5dc8a243ad0fep1, 0x1.61669cf861e4cp1, 0x1.653ce7b006aeap1,
    0x1.69540be9fe5c3p1, 0x1.6db6b8d09e232p1, 0x1.72728f05f7a34p1, 0x1.7799556090673p1,
    0x1.7d42df4d6ce8cp1, 0x1.839030529f234p1, 0x1.8ab0fbfaa7c14p1, 0x1.92ee0946f4496p1,
    0x1.9cbee014057abp1, 0x1.a8fdc7894775ap1, 0x1.b981f3878fdb1p1, 0x1.d3bb48209ad33p1,
};
static const double tail = 3.6541528853610087963519472518, tail_reciprocal = 0.27366123732975827203338247596;

/* The share of layer i that lies under the curve at every height: it ends at the edge of the layer above. */
static double safe_part(unsigned i) { return (i == 0 ? edge[255] : i == 1 ? 0.0 : edge[i - 1]) / edge[i]; }
static double height(unsigned i) { return i == 0 ? 1.0 : exp(-0.5 * edge[i] * edge[i]); }

double sd_pcg64_normal(sd_pcg64 *r)
{
    for (;;) {
        uint64_t bits = sd_pcg64_u64(r);   /* 8: layer, 1: sign, 52: position; 3 unused */
        unsigned i = (unsigned)(bits & 0xff);
        bool negative = bits >> 8 & 1;
        uint64_t position = bits >> 9 & ((UINT64_C(1) << 52) - 1);
        double x = (double)position * (edge[i] * 0x1p-52);
        if (negative) x = -x;
        if (position < (uint64_t)rint(safe_part(i) * 0x1p52)) return x;   /* 98.8 % */
        if (i > 0) {
            double above = height(i - 1), below = height(i);
            if ((above - below) * uniform_64(r) + below < exp(-0.5 * x * x)) return x;
            continue;
        }
        for (;;) {                         /* the tail: exponentials; its sign is a bit of the position */
            double a = -tail_reciprocal * log1p(-uniform_64(r)), b = -log1p(-uniform_64(r));
            if (b + b > a * a) return position >> 8 & 1 ? -(tail + a) : tail + a;
        }
    }
}

float sd_pcg64_normal_f32(sd_pcg64 *r)
{
    for (;;) {
        uint32_t bits = sd_pcg64_u32(r);   /* 8: layer, 1: sign, 23: position */
        unsigned i = bits & 0xff;
        bool negative = bits >> 8 & 1;
        uint32_t position = bits >> 9;
        float x = (float)position * ((float)edge[i] * 0x1p-23f);
        if (negative) x = -x;
        if (position < (uint32_t)rint(safe_part(i) * 0x1p23)) return x;
        if (i > 0) {
            float above = (float)height(i - 1), below = (float)height(i);
            if ((above - below) * uniform_32(r) + below < exp(-0.5 * x * x)) return x;
            continue;
        }
        for (;;) {
            float a = -(float)tail_reciprocal * log1pf(-uniform_32(r)), b = -log1pf(-uniform_32(r));
            if (b + b > a * a) return position >> 8 & 1 ? -((float)tail + a) : (float)tail + a;
        }
    }
}

/* test_pickle.c - files of torch.save: what is in those that torch, Lightning and others wrote is what torch finds in
 * them; pickles that mean harm are refused by name and place, and none takes more memory than its size allows. */
#define _POSIX_C_SOURCE 200809L
#include <sys/resource.h>

#include "test.h"
#include "../weights.h"
#include "../weights_pickle.h"
#include "tempdir.h"

#define GOLDEN "tests/golden/pickle/"

/* ------------------------------------------------------------------------------- against torch */

/* The tensor's numbers one after the other, as its strides say; free() them. */
static unsigned char *contiguous(const sd_entry *t, size_t size, size_t *bytes)
{
    size_t n = 1;
    for (int i = 0; i < t->nd; i++) n *= (size_t)t->dim[i];
    unsigned char *to = malloc(n * size + 1);
    for (size_t k = 0; k < n; k++) {
        size_t rest = k, at = 0;
        for (int i = t->nd; i-- > 0; rest /= (size_t)t->dim[i])
            at += rest % (size_t)t->dim[i] * (size_t)(t->stride ? t->stride[i] : 0);
        if (!t->stride) at = k;
        assert_true((at + 1) * size <= t->bytes);
        memcpy(to + k * size, (const unsigned char *)t->data + at * size, size);
    }
    *bytes = n * size;
    return to;
}

static void compare(const sd_entry *t, const sd_entry *want)
{
    size_t bytes = 0;
    assert_int_equal(t->dt, want->dt);
    assert_int_equal(t->nd, want->nd);
    for (int i = 0; i < t->nd; i++) assert_int_equal(t->dim[i], want->dim[i]);
    unsigned char *numbers = contiguous(t, sd_dtype_size(t->dt), &bytes);
    assert_int_equal(bytes, want->bytes);
    assert_memory_equal(numbers, want->data, bytes);
    free(numbers);
}

/* Every tensor of the file is one of "FILE/NAME" in `expected`, and there are no others. */
static void compare_file(const char *name, const sd_weight_file *expected, bool load)
{
    char path[200];
    sd_weight_file f;
    sd_error e = {0};
    size_t n = 0;
    snprintf(path, sizeof path, GOLDEN "%s", name);
    (load ? sd_weight_file_load : sd_weight_file_open)(&f, path, &e);
#ifndef SD_WITH_ZLIB
    if (strcmp(name, "deflated.pt") == 0 || strcmp(name, "latents.pt") == 0) {
        assert_int_equal(e.status, SD_ERR_UNSUPPORTED);
        assert_non_null(strstr(e.text, "without zlib"));
        return;
    }
#endif
    if (e.status) print_error("%s\n", e.text);
    assert_int_equal(e.status, SD_OK);
    for (size_t i = 0; i < expected->n; i++) {
        size_t skip = strlen(name);
        if (strncmp(expected->entry[i].name, name, skip) != 0 || expected->entry[i].name[skip] != '/') continue;
        const sd_entry *t = sd_weight_file_find(&f, expected->entry[i].name + skip + 1);
        if (!t) print_error("%s is missing\n", expected->entry[i].name);
        assert_non_null(t);
        compare(t, &expected->entry[i]);
        n++;
    }
    assert_true(n > 0);
    assert_int_equal(f.n, n);
    sd_weight_file_close(&f);
}

TEST(each_file_has_the_tensors_that_torch_finds_in_it)
{
    static const char *const names[] = {
        "lightning.ckpt", "legacy.ckpt", "protocol3.pt", "protocol4.pt", "protocol5.pt", "legacy4.pt", "deflated.pt",
        "network.pth", "network_legacy.pth", "embedding.pt", "embedding_dict.pt", "learned_embeds.bin", "upscaler.pth",
        "hypernetwork.pt", "alone.pt", "script.pt",
        "latents.pt"};
    sd_weight_file expected;
    sd_error e = {0};
    assert_int_equal(sd_weight_file_open(&expected, GOLDEN "expected.safetensors", &e), SD_OK);
    for (size_t i = 0; i < 2 * SD_COUNT(names); i++) compare_file(names[i / 2], &expected, i % 2);
    sd_weight_file_close(&expected);
}

TEST(what_stands_beside_the_tensors_is_kept_as_text)
{
    static const struct { const char *file, *key, *value; } want[] = {
        {"lightning.ckpt", "epoch", "3"}, {"lightning.ckpt", "global_step", "470000"},
        {"lightning.ckpt", "pytorch-lightning_version", "1.4.2"}, {"lightning.ckpt", "ratio", "0.5"},
        {"lightning.ckpt", "hyper_parameters.base_learning_rate", "0.0001"},
        {"lightning.ckpt", "hyper_parameters.flags.use_ema", "true"}, {"lightning.ckpt", "big", NULL},
        {"lightning.ckpt", "state_dict", NULL}, {"legacy.ckpt", "global_step", "470000"},
        {"embedding.pt", "name", "a style"}, {"embedding.pt", "step", "900"},
        {"embedding.pt", "string_to_token.*", "265"},
        {"embedding_dict.pt", "sd_checkpoint", "c0ffee42"}, {"embedding.pt", "sd_checkpoint_name", NULL},
        {"hypernetwork.pt", "name", "h"}, {"network.pth", "training", NULL}, {"network_legacy.pth", "epoch", "1"},
    };
    for (size_t i = 0; i < SD_COUNT(want); i++) {
        char path[200];
        sd_weight_file f;
        sd_error e = {0};
        snprintf(path, sizeof path, GOLDEN "%s", want[i].file);
        assert_int_equal(sd_weight_file_open(&f, path, &e), SD_OK);
        const char *value = sd_weight_file_meta(&f, want[i].key);
        if (!want[i].value) assert_null(value);
        else assert_string_equal(value ? value : "nothing", want[i].value);
        sd_weight_file_close(&f);
    }
}

TEST(numbers_of_a_stored_archive_are_used_where_they_lie)
{
    sd_weight_file f;
    sd_error e = {0};
    assert_int_equal(sd_weight_file_open(&f, GOLDEN "protocol4.pt", &e), SD_OK);
    for (size_t i = 0; i < f.n; i++) {
        const char *begin = f.file.data, *at = f.entry[i].data;
        assert_true(at >= begin && at + f.entry[i].bytes <= begin + f.file.size);
    }
    sd_weight_file_close(&f);
}

/* ------------------------------------------------------------------------------------ by hand */

static sd_status read_text(sd_pickle *p, const char *text, size_t n, sd_error *e)
{
    char *copy = malloc(n + 1);   /* of its own, so that reading beyond it is seen */
    memcpy(copy, text, n);
    sd_status status = sd_pickle_read(p, copy, n, 0, "x.pt", e);
    if (status) free(copy);
    return status;
}

static void done(sd_pickle *p)
{
    free((void *)(uintptr_t)p->data);
    sd_pickle_free(p);
}

#define PICKLE(text) text, sizeof(text) - 1
static const struct refused { const char *text; size_t n; sd_status status; const char *says; } refused[] = {
    /* names that do harm, by each instruction that can name something */
    {PICKLE("\x80\x02" "cos\nsystem\n(X\x02\0\0\0idtR."), SD_ERR_UNSUPPORTED, "byte 2 of the pickle names os.system"},
    {PICKLE("cposix\nsystem\n."), SD_ERR_UNSUPPORTED, "byte 0 of the pickle names posix.system"},
    {PICKLE("cnt\nsystem\n."), SD_ERR_UNSUPPORTED, "nt.system"},
    {PICKLE("csubprocess\nPopen\n."), SD_ERR_UNSUPPORTED, "subprocess.Popen"},
    {PICKLE("cbuiltins\neval\n."), SD_ERR_UNSUPPORTED, "builtins.eval"},
    {PICKLE("c__builtin__\nexec\n."), SD_ERR_UNSUPPORTED, "__builtin__.exec"},
    {PICKLE("cbuiltins\ngetattr\n."), SD_ERR_UNSUPPORTED, "builtins.getattr"},
    {PICKLE("cbuiltins\n__import__\n."), SD_ERR_UNSUPPORTED, "builtins.__import__"},
    {PICKLE("cbuiltins\nopen\n."), SD_ERR_UNSUPPORTED, "builtins.open"},
    {PICKLE("cimportlib\nimport_module\n."), SD_ERR_UNSUPPORTED, "importlib.import_module"},
    {PICKLE("cwebbrowser\nopen\n."), SD_ERR_UNSUPPORTED, "webbrowser.open"},
    {PICKLE("csocket\nsocket\n."), SD_ERR_UNSUPPORTED, "socket.socket"},
    {PICKLE("ctorch.hub\nload\n."), SD_ERR_UNSUPPORTED, "torch.hub.load"},
    {PICKLE("ctorch.storage\n_load_from_bytes\n."), SD_ERR_UNSUPPORTED, "torch.storage._load_from_bytes"},
    {PICKLE("cnumpy.testing._private.utils\nrunstring\n."), SD_ERR_UNSUPPORTED, "runstring"},
    {PICKLE("coperator\nattrgetter\n."), SD_ERR_UNSUPPORTED, "operator.attrgetter"},
    {PICKLE("\x80\x04\x8c\x02os\x8c\x06system\x93."), SD_ERR_UNSUPPORTED, "byte 14 of the pickle names os.system"},
    {PICKLE("\x80\x04\x8c\x08torch.nn\x8c\x11modules.os.system\x93."), SD_ERR_UNSUPPORTED,
     "names torch.nn.modules.os.system"},
    {PICKLE("(X\x02\0\0\0idios\nsystem\n."), SD_ERR_UNSUPPORTED, "byte 8 of the pickle names os.system"},
    {PICKLE("c os\nsystem\n."), SD_ERR_FORMAT, "no plain name"},
    {PICKLE("ctorch\nFloat\x01Storage\n."), SD_ERR_FORMAT, "no plain name"},
    {PICKLE("\x80\x04K\x01K\x02\x93."), SD_ERR_FORMAT, "no plain name"},
    /* calls and states of what is no class and no object */
    {PICKLE("K\x01)R."), SD_ERR_FORMAT, "calls something that is no class"},
    {PICKLE("ccollections\nOrderedDict\nK\x01R."), SD_ERR_FORMAT, "arguments that are no tuple"},
    {PICKLE("ccollections\nOrderedDict\n)R)R."), SD_ERR_FORMAT, "calls something that is no class"},
    {PICKLE("ccollections\nOrderedDict\n}b."), SD_ERR_FORMAT, "gives a state to something that is no object"},
    {PICKLE("K\x01}b."), SD_ERR_FORMAT, "gives a state"},
    {PICKLE("ccollections\nOrderedDict\n(](K\x01" "eetR."), SD_ERR_FORMAT, "adds items to what has none"},
    {PICKLE("ccollections\nOrderedDict\n(](](K\x01" "eetR."), SD_ERR_FORMAT, "what are no pairs"},
    /* the stack */
    {PICKLE("."), SD_ERR_FORMAT, "byte 0 of the pickle (instruction 0x2e): takes more from the stack"},
    {PICKLE("0."), SD_ERR_FORMAT, "takes more from the stack"},
    {PICKLE("K\x01(."), SD_ERR_FORMAT, "takes more from the stack"},
    {PICKLE("]a."), SD_ERR_FORMAT, "takes more from the stack"},
    {PICKLE("}K\x01s."), SD_ERR_FORMAT, "takes more from the stack"},
    {PICKLE("K\x01(\x85."), SD_ERR_FORMAT, "takes more from the stack"},
    {PICKLE("t."), SD_ERR_FORMAT, "needs a mark"},
    {PICKLE("}(K\x01u."), SD_ERR_FORMAT, "a key without a value"},
    {PICKLE("(K\x01" "d."), SD_ERR_FORMAT, "a key without a value"},
    {PICKLE("]K\x01K\x02s."), SD_ERR_FORMAT, "adds items to what has none"},
    {PICKLE("}K\x01" "a."), SD_ERR_FORMAT, "adds items to what has none"},
    {PICKLE(")K\x01" "a."), SD_ERR_FORMAT, "adds items to what has none"},
    {PICKLE("(o."), SD_ERR_FORMAT, "calls nothing"},
    /* the memo */
    {PICKLE("h\0."), SD_ERR_FORMAT, "never kept"},
    {PICKLE("Nq\x03h\x01."), SD_ERR_FORMAT, "never kept"},
    {PICKLE("Nr\xff\xff\xff\xff."), SD_ERR_FORMAT, "under a number that is too large"},
    {PICKLE("Np-1\n."), SD_ERR_FORMAT, "no number"},
    {PICKLE("q\0."), SD_ERR_FORMAT, "takes more from the stack"},
    /* operands */
    {PICKLE("X\xff\xff\xff\xff" "abc."), SD_ERR_FORMAT, "the file ends in the middle"},
    {PICKLE("\x8d\xff\xff\xff\xff\xff\xff\xff\xff."), SD_ERR_FORMAT, "the file ends in the middle"},
    {PICKLE("\x95\xff\xff\xff\xff\xff\xff\xff\x7f."), SD_ERR_FORMAT, "a frame reaches beyond"},
    {PICKLE("\x80\x06."), SD_ERR_FORMAT, "newer protocol"},
    {PICKLE("J\x01\x02"), SD_ERR_FORMAT, "the file ends in the middle"},
    {PICKLE("cos"), SD_ERR_FORMAT, "the file ends in the middle"},
    {PICKLE("I12x\n."), SD_ERR_FORMAT, "no number"},
    {PICKLE("F1.5x\n."), SD_ERR_FORMAT, "no number"},
    {PICKLE("S'a\n."), SD_ERR_FORMAT, "without quotes"},
    {PICKLE("N"), SD_ERR_FORMAT, "cut short: its pickle has no end"},
    {PICKLE("\x82\x01."), SD_ERR_FORMAT, "does not write: refused"},
    {PICKLE("Pid\n."), SD_ERR_FORMAT, "does not write: refused"},
    {PICKLE("\x97."), SD_ERR_FORMAT, "does not write: refused"},
    {PICKLE("K\x01Q."), SD_ERR_FORMAT, "no storage of torch's"},
    {PICKLE("(X\x07\0\0\0storageK\x01K\x01K\x01K\x01tQ."), SD_ERR_FORMAT, "no storage of torch's"},
};

TEST(what_means_harm_or_makes_no_sense_is_refused_by_name_and_place)
{
    for (size_t i = 0; i < SD_COUNT(refused); i++) {
        sd_pickle p;
        sd_error e = {0};
        sd_status got = read_text(&p, refused[i].text, refused[i].n, &e);
        if (got != refused[i].status || !strstr(e.text, refused[i].says) || strchr(e.text, '\n'))
            print_error("%zu -> %s: %s\n", i, sd_status_name(got), e.text);
        assert_int_equal(got, refused[i].status);
        assert_non_null(strstr(e.text, refused[i].says));
        assert_null(strchr(e.text, '\n'));
        assert_null(p.value);
    }
}

/* Python 2 and the oldest protocols; what each is in the end. */
TEST(old_protocols_say_the_same_in_other_words)
{
    static const struct { const char *text; size_t n; int64_t value; } cases[] = {
        {PICKLE("(dp0\nS'a'\np1\nI7\ns."), 7},
        {PICKLE("(dp0\nVa\np1\nL7L\ns."), 7},
        {PICKLE("(S'a'\nI-7\nd."), -7},
        {PICKLE("ccollections\nOrderedDict\n((lp0\n(lp1\nS'a'\naI7\naatR."), 7},
        {PICKLE("ccopy_reg\n_reconstructor\n(cargparse\nNamespace\nc__builtin__\nobject\nNtR(dS'a'\nI7\nsb."), 7},
        {PICKLE("(iargparse\nNamespace\n(dS'a'\nI7\nsb."), 7},
        {PICKLE("(cargparse\nNamespace\no(dS'a'\nI7\nsb."), 7},
        {PICKLE("\x80\x02}U\x01" "aK\x07s."), 7},
        {PICKLE("\x80\x02}T\x01\0\0\0aM\x07\x01s."), 263},
        {PICKLE("\x80\x02}U\x01" "aJ\xff\xff\xff\xffs."), -1},
        {PICKLE("\x80\x02}U\x01" "a\x8a\x02\x00\x80s."), -32768},
        {PICKLE("\x80\x02}U\x01" "a\x8a\0s."), 0},
        {PICKLE("\x80\x02}U\x01" "a\x8b\x01\0\0\0\x7fs."), 127},
        {PICKLE("\x80\x04\x95\x0a\0\0\0\0\0\0\0}\x8d\x01\0\0\0\0\0\0\0aK\x07s."), 7},
        {PICKLE("}U\x01" "aK\x07" "s}0(NN1."), 7},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_pickle p;
        sd_error e = {0};
        int64_t value = 0;
        if (read_text(&p, cases[i].text, cases[i].n, &e)) print_error("%zu: %s\n", i, e.text);
        assert_int_equal(e.status, SD_OK);
        sd_pickled dict = sd_pickle_kind(&p, p.root) == SD_PICKLED_OBJECT ? sd_pickle_state(&p, p.root) : p.root;
        if (!sd_pickle_int(&p, sd_pickle_get(&p, dict, "a"), &value)) print_error("%zu: no number\n", i);
        assert_int_equal(value, cases[i].value);
        done(&p);
    }
}

TEST(an_inert_object_keeps_its_class_and_what_it_was_given)
{
    static const char text[] = "\x80\x02" "cnumpy.core.multiarray\nscalar\n(K\x01K\x02tR}U\x01"
                               "aK\x05sb(U\x01kK\x06u.";
    sd_pickle p;
    sd_error e = {0};
    char name[100];
    int64_t value;
    assert_int_equal(read_text(&p, text, sizeof text - 1, &e), SD_OK);
    assert_int_equal(sd_pickle_kind(&p, p.root), SD_PICKLED_OBJECT);
    sd_pickle_name(&p, p.root, name, sizeof name);
    assert_string_equal(name, "numpy.core.multiarray.scalar");
    assert_int_equal(sd_pickle_count(&p, sd_pickle_args(&p, p.root)), 2);
    assert_true(sd_pickle_int(&p, sd_pickle_get(&p, sd_pickle_state(&p, p.root), "a"), &value) && value == 5);
    assert_true(sd_pickle_int(&p, sd_pickle_get(&p, sd_pickle_pairs(&p, p.root), "k"), &value) && value == 6);
    done(&p);
}

/* transformers' configurations keep one: a text encoder that was saved whole has it. */
TEST(a_compiled_expression_is_inert)
{
    static const char text[] = "\x80\x02" "}(U\x01rcre\n_compile\n(U\x03[a]K tRU\x01" "aK\x05u.";
    sd_pickle p;
    sd_error e = {0};
    int64_t value;
    if (read_text(&p, text, sizeof text - 1, &e)) fail_msg("%s", e.text);
    assert_true(sd_pickle_int(&p, sd_pickle_get(&p, p.root, "a"), &value) && value == 5);
    done(&p);
}

/* ------------------------------------------------------------------------------ memory and depth */

static long peak_kb(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_maxrss;
}

/* n lists, each in the next. Bytes after each list's own are there because real pickles have them, too: MEMOIZE. */
static char *nested(size_t n, bool memo, size_t *bytes)
{
    size_t each = memo ? 2 : 1;
    char *text = malloc(n * each + n + 1);
    for (size_t i = 0; i < n; i++) memcpy(text + i * each, "]\x94", each);
    memset(text + n * each, 'a', n - 1);
    text[n * each + n - 1] = '.';
    *bytes = n * each + n;
    return text;
}

TEST(a_million_lists_in_each_other_are_no_recursion_and_no_memory)
{
    for (int memo = 0; memo < 2; memo++) {
        size_t n;
        char *text = nested(1000000, memo, &n);
        long before = peak_kb();
        sd_pickle p;
        sd_error e = {0};
        sd_pickle_read(&p, text, n, 0, "x.pt", &e);
        assert_true(e.status == SD_OK || (e.status == SD_ERR_FORMAT && strstr(e.text, "takes more memory")));
        assert_true(peak_kb() - before < (long)(3 * SD_PICKLE_GROWTH * n / 1024 + 1024));   /* lists grow by doubling */
        sd_pickle_free(&p);
        free(text);
    }
}

TEST(no_instruction_makes_more_of_a_pickle_than_its_bound)
{
    static const char *const floods[] = {"]", "}", "(", "K\x01\x85", "N2", "]2", "(t", "G\0\0\0\0\0\0\0\0", "\x8f"};
    enum { N = 1 << 20 };
    for (size_t i = 0; i < SD_COUNT(floods); i++) {
        size_t each = floods[i][0] == 'G' ? 9 : strlen(floods[i]);
        char *text = malloc(N + 16);
        for (size_t k = 0; k < N; k += each) memcpy(text + k, floods[i], each);
        sd_pickle p;
        sd_error e = {0};
        text[N - N % each] = '.';
        sd_pickle_read(&p, text, N - N % each + 1, 0, "x.pt", &e);
        if (e.status == SD_OK)
            assert_true(p.n * sizeof *p.value + p.n_words * 4 <= (size_t)SD_PICKLE_GROWTH * N + (64 << 10) + 64);
        sd_pickle_free(&p);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_file_has_the_tensors_that_torch_finds_in_it),
        cmocka_unit_test(what_stands_beside_the_tensors_is_kept_as_text),
        cmocka_unit_test(numbers_of_a_stored_archive_are_used_where_they_lie),
        cmocka_unit_test(what_means_harm_or_makes_no_sense_is_refused_by_name_and_place),
        cmocka_unit_test(old_protocols_say_the_same_in_other_words),
        cmocka_unit_test(an_inert_object_keeps_its_class_and_what_it_was_given),
        cmocka_unit_test(a_compiled_expression_is_inert),
        cmocka_unit_test(a_million_lists_in_each_other_are_no_recursion_and_no_memory),
        cmocka_unit_test(no_instruction_makes_more_of_a_pickle_than_its_bound),
    };
    return cmocka_run_group_tests(tests, temp_make, temp_remove);
}

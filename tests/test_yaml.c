/* test_yaml.c - yaml.c: what configurations are written in is read as PyYAML reads it, the rest of YAML is refused with
 * its line, and hostile texts are bounded. */
#include "../yaml.h"
#include "test.h"

/* Expected: the same as JSON, from PyYAML 6 (numbers such as 1e-4, which PyYAML alone takes for text, from
 * OmegaConf). */
static const struct { const char *yaml, *json; } good[] = {
    {"model:\n"
     "  base_learning_rate: 1.0e-04\n"
     "  target: ldm.models.diffusion.ddpm.LatentDiffusion\n"
     "  params:\n"
     "    parameterization: \"v\"\n"
     "    linear_start: 0.00085\n"
     "    linear_end: 0.0120\n"
     "    timesteps: 1000\n"
     "    cond_stage_trainable: false   # Note: different from the one we trained before\n"
     "    monitor: val/loss_simple_ema\n"
     "    use_ema: False\n"
     "\n"
     "    unet_config:\n"
     "      params:\n"
     "        image_size: 32 # unused\n"
     "        attention_resolutions: [ 4, 2, 1 ]\n"
     "        channel_mult: [ 1, 2,\n"
     "          4, 4 ]\n"
     "    first_stage_config:\n"
     "      params:\n"
     "        ddconfig:\n"
     "          ch_mult:\n"
     "          - 1\n"
     "          - 2\n"
     "          attn_resolutions: []\n"
     "          dropout: 0.0\n"
     "        lossconfig:\n"
     "          target: torch.nn.Identity\n",
     "{\"model\":{\"base_learning_rate\":0.0001,\"target\":\"ldm.models.diffusion.ddpm.LatentDiffusion\",\"params\":{"
     "\"parameterization\":\"v\",\"linear_start\":0.00085,\"linear_end\":0.012,\"timesteps\":1000,"
     "\"cond_stage_trainable\":false,\"monitor\":\"val/loss_simple_ema\",\"use_ema\":false,\"unet_config\":{"
     "\"params\":{\"image_size\":32,\"attention_resolutions\":[4,2,1],\"channel_mult\":[1,2,4,4]}},"
     "\"first_stage_config\":{"
     "\"params\":{\"ddconfig\":{\"ch_mult\":[1,2],\"attn_resolutions\":[],\"dropout\":0},\"lossconfig\":{\"target\":"
     "\"torch.nn.Identity\"}}}}}}"},
    {"emb_models:\n"
     "  - is_trainable: False\n"
     "    params:\n"
     "      layer: hidden\n"
     "  - # a comment\n"
     "    legacy: True\n"
     "  -\n"
     "  - - 1\n"
     "    - two\n",
     "{\"emb_models\":[{\"is_trainable\":false,\"params\":{\"layer\":\"hidden\"}},{\"legacy\":true},null,"
     "[1,\"two\"]]}"},
    {"---\r\na: 'it''s: # no comment'\r\n\"b c\": \"x\\n\\u00e4\"\r\nd: {}\r\ne : ~\r\nf:\r\n",
     "{\"a\":\"it's: # no comment\",\"b c\":\"x\\n\xc3\xa4\",\"d\":{},\"e\":null,\"f\":null}"},
    {"a: 1.e-06\nb: -0.5\nc: +3\nd: 1e-4\ne: 1.\nf: .5\ng: 1.2.3\nh: 10-3\ni: inf\nj: .inf\nk: 0x10\nl: -\nm: 1_000\n",
     "{\"a\":1e-06,\"b\":-0.5,\"c\":3,\"d\":0.0001,\"e\":1,\"f\":0.5,\"g\":\"1.2.3\",\"h\":\"10-3\",\"i\":\"inf\","
     "\"j\":\".inf\",\"k\":\"0x10\",\"l\":\"-\",\"m\":\"1_000\"}"},
    {"a: http://x:80/y#z\nb: don't\nc: a, b\nd: [a b, 'c, d', [1, []], \"]\"]\n",
     "{\"a\":\"http://x:80/y#z\",\"b\":\"don't\",\"c\":\"a, b\",\"d\":[\"a b\",\"c, d\",[1,[]],\"]\"]}"},
};

TEST(configurations_read_as_pyyaml_reads_them)
{
    for (size_t i = 0; i < SD_COUNT(good); i++) {
        sd_error e = {0};
        sd_json *root = sd_yaml_parse(good[i].yaml, strlen(good[i].yaml), "a.yaml", &e);
        if (!root) fail_msg("text %zu: %s", i, e.text);
        char *json = sd_json_print(root);
        assert_string_equal(json, good[i].json);
        free(json);
        sd_json_free(root);
    }
}

static const struct { const char *yaml, *sentence; sd_status status; } bad[] = {
    {"", "a.yaml: expected keys and values", SD_ERR_FORMAT},
    {"# nothing\n", "a.yaml: expected keys and values", SD_ERR_FORMAT},
    {"- a\n", "a.yaml: expected keys and values", SD_ERR_FORMAT},
    {"just text\n", "a.yaml: expected keys and values", SD_ERR_FORMAT},
    {"a: 1\nb\n", "a.yaml, line 2: a key and a colon are expected", SD_ERR_FORMAT},
    {"a: 1\n  b: 2\n", "a.yaml, line 2: this line is indented as nothing above it is", SD_ERR_FORMAT},
    {"  a: 1\nb: 2\n", "a.yaml, line 2: this line is indented less than the first one", SD_ERR_FORMAT},
    {"a:\n\tb: 1\n", "a.yaml, line 2: a tab cannot indent", SD_ERR_FORMAT},
    {"a: b: c\n", "a.yaml, line 1: a mapping cannot begin here", SD_ERR_FORMAT},
    {"a: [1, 2\nb: 3\n", "a.yaml, line 2: a comma or the end of a list is expected", SD_ERR_FORMAT},
    {"a: [1, 2\n", "a.yaml, line 1: a list has no end", SD_ERR_FORMAT},
    {"a: [1,,2]\n", "a.yaml, line 1: a list has an empty place", SD_ERR_FORMAT},
    {"a: [1] 2\n", "a.yaml, line 1: something follows a list", SD_ERR_FORMAT},
    {"a: 'x' y\n", "a.yaml, line 1: something follows a quoted scalar", SD_ERR_FORMAT},
    {"a: \"x\nb: 1\n", "a.yaml, line 1: a quoted scalar must end on its line", SD_ERR_UNSUPPORTED},
    {"a: \"\\x41\"\n", "a.yaml, line 1: an escape that JSON does not have", SD_ERR_UNSUPPORTED},
    {"a: &x 1\n", "a.yaml, line 1: anchors are not supported", SD_ERR_UNSUPPORTED},
    {"a: *x\n", "a.yaml, line 1: aliases are not supported", SD_ERR_UNSUPPORTED},
    {"a: !!python/object/apply:os.system ['x']\n", "a.yaml, line 1: tags are not supported", SD_ERR_UNSUPPORTED},
    {"a: |\n  x\n", "a.yaml, line 1: block scalars are not supported", SD_ERR_UNSUPPORTED},
    {"a: {b: 1}\n", "a.yaml, line 1: mappings in braces are not supported", SD_ERR_UNSUPPORTED},
    {"a: 1\n---\nb: 1\n", "a.yaml, line 2: several documents in one file are not supported", SD_ERR_UNSUPPORTED},
    {"a: 1\nb:\n  c: 1\n  c: 2\n", "a.yaml: the key \"c\" comes twice", SD_ERR_FORMAT},
    {"a: \x01\n", "a.yaml, line 1: a control character", SD_ERR_FORMAT},
    {"a: \xff\n", "a.yaml is no UTF-8 text", SD_ERR_FORMAT},
};

TEST(what_is_not_known_is_refused_with_its_line)
{
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        sd_error e = {0};
        sd_json *root = sd_yaml_parse(bad[i].yaml, strlen(bad[i].yaml), "a.yaml", &e);
        if (root) fail_msg("text %zu was read: %s", i, bad[i].yaml);
        assert_string_equal(e.text, bad[i].sentence);
        assert_int_equal(e.status, bad[i].status);
    }
}

/* n times `unit`, then `end`. */
static void expect_bounded(const char *unit, size_t n, const char *end, const char *sentence)
{
    size_t size = strlen(unit);
    char *text = malloc(n * size + strlen(end) + 1);
    for (size_t i = 0; i < n; i++) memcpy(text + i * size, unit, size);
    strcpy(text + n * size, end);
    sd_error e = {0};
    assert_null(sd_yaml_parse(text, strlen(text), "a.yaml", &e));
    assert_string_equal(e.text, sentence);
    free(text);
}

TEST(depth_and_size_are_bounded)
{
    expect_bounded("a: [", 1, "", "a.yaml, line 1: a list has no end");
    char deep[200] = "a: ";
    memset(deep + 3, '[', 100);
    expect_bounded(deep, 1, "", "a.yaml, line 1: lists and mappings are nested too deep");
    expect_bounded("- ", 100, "a", "a.yaml: expected keys and values");
    char items[300] = "a:\n  ";
    for (int i = 0; i < 100; i++) strcat(items, "- ");
    expect_bounded(items, 1, "a", "a.yaml, line 2: lists and mappings are nested too deep");
    expect_bounded("a:\n", 5000, "", "a.yaml, line 4097: there are more than 4096 lines");
    expect_bounded("aaaaaaaa", 1 << 16, "", "a.yaml has more than 262144 bytes");
}

TEST(a_value_is_found_by_its_path)
{
    const char text[] = "model:\n  params:\n    linear_start: 0.00085\n  list: [1]\n";
    sd_error e = {0};
    sd_json *root = sd_yaml_parse(text, strlen(text), "a.yaml", &e);
    assert_float_equal(sd_yaml_at(root, "model.params.linear_start")->number, 0.00085, 0);
    assert_ptr_equal(sd_yaml_at(root, ""), root);
    static const char *const none[] = {"model.params.linear", "model.params.linear_start.x", "params", "model..params",
                                       "model.list.0"};
    for (size_t i = 0; i < SD_COUNT(none); i++) assert_null(sd_yaml_at(root, none[i]));
    sd_json_free(root);
    assert_null(sd_yaml_at(NULL, "a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configurations_read_as_pyyaml_reads_them),
        cmocka_unit_test(what_is_not_known_is_refused_with_its_line),
        cmocka_unit_test(depth_and_size_are_bounded),
        cmocka_unit_test(a_value_is_found_by_its_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

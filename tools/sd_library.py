"""libsd.so from Python, through its public interface (sd.h, by ctypes).

`python tools/sd_library.py [./libsd.so]` lists the parameters and sets each by its name: nothing here knows sd_params.
"""
import ctypes as C
import os
import sys

PART_TEXT, PART_UNET, PART_VAE = 2 | 1, 4, 8   # a text encoder needs its tokenizer
DEFAULT = -2 ** 31                             # SD_DEFAULT
TEXT, FILE, INT, BOOL, NUMBER, SEED, LIST, MARGINS, PAIR = range(9)   # sd_param_type


class Options(C.Structure):
    """sd_options."""
    _fields_ = [("size", C.c_size_t), ("model", C.c_char_p), ("parts", C.c_uint), ("threads", C.c_int),
                ("residency", C.c_int), ("precise", C.c_int), ("gemm", C.c_int), ("memory", C.c_uint64),
                ("log", C.c_void_p), ("user", C.c_void_p)]


class ParamInfo(C.Structure):
    """sd_param_info."""
    _fields_ = [("key", C.c_char_p), ("group", C.c_char_p), ("type", C.c_int), ("offset", C.c_size_t),
                ("count_offset", C.c_size_t), ("least", C.c_double), ("most", C.c_double), ("initial", C.c_double),
                ("words", C.c_char_p), ("option", C.c_char_p), ("letter", C.c_char), ("value", C.c_char_p),
                ("help", C.c_char_p), ("text_key", C.c_char_p)]


def load(path):
    lib = C.CDLL(os.path.abspath(path))
    lib.sd_error_text.restype = C.c_char_p
    lib.sd_params_size.restype = C.c_size_t
    return lib


def parameters(lib):
    """What sd_get_param tells of each."""
    infos = []
    while True:
        info = ParamInfo()
        if not lib.sd_get_param_sized(len(infos), C.byref(info), C.c_size_t(C.sizeof(info))):
            return infos
        infos.append(info)


class Params:
    """sd_params as so many bytes: set(steps=20, sampler="euler", sigmas=[5, 1, 0]); `pointer` is for the library."""

    def __init__(self, lib, **settings):
        self.lib, self.pointer = lib, C.create_string_buffer(lib.sd_params_size())
        lib.sd_params_init_sized(self.pointer, C.c_size_t(len(self.pointer)))
        self.set(**settings)

    def __del__(self):
        self.lib.sd_params_free(self.pointer)

    def set(self, **settings):
        error = C.create_string_buffer(512)
        for key, value in settings.items():
            if isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
                value = ",".join(repr(float(x)) for x in value)
            text = None if value is None else str(value).encode()
            if self.lib.sd_params_set(self.pointer, key.encode(), text, error):
                raise ValueError(error.value.decode())

    def get(self, key):
        error, text = C.create_string_buffer(512), C.c_char_p()
        if self.lib.sd_params_get(self.pointer, key.encode(), C.byref(text), error):
            raise ValueError(error.value.decode())
        value = text.value and text.value.decode()
        self.lib.sd_free(text)
        return value


class Context:
    """An open model: call("sd_unet", ...) for what returns a status, `lib` and `ctx` for the rest."""

    def __init__(self, path, directory, **options):
        self.lib, self.ctx = load(path), C.c_void_p()
        o = Options()
        self.lib.sd_options_init_sized(C.byref(o), C.c_size_t(C.sizeof(o)))
        for key, value in dict(model=directory.encode(), **options).items():
            setattr(o, key, value)
        self.check(self.lib.sd_open(C.byref(self.ctx), C.byref(o)))

    def check(self, status):
        if status:
            raise RuntimeError(self.lib.sd_error_text(self.ctx).decode())

    def call(self, function, *args):
        self.check(getattr(self.lib, function)(self.ctx, *args))


def example(info):
    """A value that is not the default, as text."""
    number = info.most if info.initial != info.most and info.most < 1e9 else info.least
    return {TEXT: "words", FILE: "file", INT: f"{number:.0f}", BOOL: "true" if info.initial != 1 else "false",
            NUMBER: repr(number), SEED: "18446744073709551615", LIST: "3.5,2,0", MARGINS: "1,2,3,4", PAIR: "32x16"}[info.type]


def main():
    lib = load(sys.argv[1] if len(sys.argv) > 1 else "./libsd.so")
    for info in parameters(lib):
        p, key, value = Params(lib), info.key.decode(), example(info)
        assert p.get(key) is None, f"{key} does not begin with its default"
        p.set(**{key: value})
        same = float(p.get(key)) == float(value) if info.type == NUMBER else p.get(key) == value
        assert same, f"{key}: set to {value}, got {p.get(key)}"
        print(f"{key:18} {info.group.decode() or '-':9} --{info.option.decode():18}", info.help.decode().split("\n")[0])
    try:
        Params(lib, steps="many")
    except ValueError as e:
        print(e)
    else:
        raise SystemExit("steps=many was taken")


if __name__ == "__main__":
    main()

"""libsd.so from Python, through its public interface (sd.h, by ctypes)."""
import ctypes as C
import os

PART_TEXT, PART_UNET, PART_VAE = 2 | 1, 4, 8   # a text encoder needs its tokenizer


class Options(C.Structure):
    """sd_options."""
    _fields_ = [("size", C.c_size_t), ("model", C.c_char_p), ("parts", C.c_uint), ("threads", C.c_int), ("residency", C.c_int),
                ("precise", C.c_int), ("gemm", C.c_int),
                ("memory", C.c_uint64), ("log", C.c_void_p), ("user", C.c_void_p)]


class Context:
    """An open model: call("sd_unet", ...) for what returns a status, `lib` and `ctx` for the rest."""

    def __init__(self, path, directory, **options):
        self.lib, self.ctx = C.CDLL(os.path.abspath(path)), C.c_void_p()
        self.lib.sd_error_text.restype = C.c_char_p
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

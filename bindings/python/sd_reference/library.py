"""libsd from Python, by ctypes: numpy arrays go in and come out, in PyTorch's order ([N,C,H,W]) and diffusers' names.

    model = sd_reference.Model("weights/tiny")
    picture = model.generate("a red apple", steps=20, seed=1).images[0]          # [H,W,3], bytes
    trace = model.generate("a red apple", steps=3, trace="*").trace              # {name: array}, in order
    context = model.encode_text(["", "a red apple"])                             # [2,77,D]
    noise_pred = model.unet(latents, 981, context)

What fails raises Error with the library's sentence. One thread may use a model at a time.
"""
import ctypes as C
import ctypes.util
import json
import os

import numpy as np

from . import structs as T


class Error(RuntimeError):
    """`status` is sd_status_name's word: "argument", "io", "shape", ..."""

    def __init__(self, text, status):
        super().__init__(text)
        self.status = status


# ---------------------------------------------------------------------------------------------------- the library

POINTERS = ("sd_version", "sd_build_info", "sd_error_text", "sd_error_place", "sd_token_piece", "sd_schedule_name",
            "sd_status_name")


def find():
    """$SD_LIBRARY; beside these sources, where `make` puts it; where the system has its libraries."""
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
    beside = [os.path.join(root, "libsd" + ending) for ending in (".so", ".dylib")]
    path = os.environ.get("SD_LIBRARY") or next((p for p in beside if os.path.exists(p)), ctypes.util.find_library("sd"))
    if not path:
        raise ImportError("libsd is not found: install it, or say where it is in SD_LIBRARY")
    return path


def load(path=None):
    """The library, with the types of what is not an int."""
    path = path or find()
    lib = C.CDLL(os.path.abspath(path) if os.path.exists(path) else path)
    for name in POINTERS:
        getattr(lib, name).restype = C.c_char_p
    lib.sd_params_size.restype = C.c_size_t
    return lib


_loaded = []


def default():
    """The library that find() finds, loaded once."""
    if not _loaded:
        _loaded.append(load())
    return _loaded[0]


def version(library=None):
    return (library or default()).sd_version().decode()


def check(lib, status, text):
    if status:
        raise Error((text or b"").decode(errors="replace"), lib.sd_status_name(status).decode())


def word(value):
    """A text for the library, which ends at a zero."""
    if value is None:
        return None
    x = value if isinstance(value, bytes) else os.fsencode(value) if isinstance(value, os.PathLike) else str(value).encode()
    if b"\0" in x:
        raise Error("a text has a zero in it, at byte %d" % x.index(b"\0"), "argument")
    return x


def sized(lib, name, **fields):
    """A struct with its defaults, and some fields set."""
    s = T.KNOWN[name]()
    init = getattr(lib, name + "_init_sized", None)
    if init:
        init(C.byref(s), C.c_size_t(C.sizeof(s)))
    for key, value in fields.items():
        setattr(s, key, value)
    return s


def set_options(s, options, known):
    """Fields of a struct, of those that may be set."""
    for key, value in options.items():
        if key not in known:
            raise Error("%s is no option: %s" % (key, ", ".join(known)), "argument")
        setattr(s, key, word(value) if isinstance(value, (str, os.PathLike)) else value)


def as_dict(s):
    """The fields of a struct, texts as str."""
    pairs = ((k, getattr(s, k)) for k, _ in s._fields_)
    return {k: v.decode(errors="replace") if isinstance(v, bytes) else v for k, v in pairs}


def floats(x, *shape):
    """float32 numbers of this shape; -1: of any length, as many dimensions as there are here."""
    x = np.ascontiguousarray(x, np.float32)
    if x.ndim != len(shape) or any(n not in (-1, m) for n, m in zip(shape, x.shape)):
        raise Error("numbers must be [%s], not %s" % (",".join("n" if n < 0 else str(n) for n in shape), list(x.shape)), "shape")
    return x


def at(x):
    return None if x is None else x.ctypes.data


def array_of(t):
    """A copy of the numbers of a traced tensor; None where there are none."""
    shape, kind = tuple(t.dim[:t.nd]), C.c_int64 if t.dtype == T.I64_TYPE else C.c_float
    if not t.data:
        return None
    return np.ctypeslib.as_array(C.cast(t.data, C.POINTER(kind)), (int(np.prod(shape, dtype=np.int64)),)).reshape(shape).copy()


# ---------------------------------------------------------------------------------------------------- parameters

def parameters(library=None):
    """What sd_get_param tells of each parameter: its key, type, bounds, help."""
    lib, infos = library or default(), []
    while True:
        info = T.param_info()
        if not lib.sd_get_param_sized(len(infos), C.byref(info), C.c_size_t(C.sizeof(info))):
            return infos
        infos.append(info)


class Params:
    """sd_params: Params(steps=20, sampler="euler", sigmas=[5, 1, 0]). Keys are those of `sd_params_set` (steps,
    guidance_scale, width, seed, ...), and arrays: image [H,W,3 or 4] and mask [H,W] of bytes, noise and latents
    [batch,C,h,w], depth [H,W]. `pointer` is for the library."""

    ARRAYS = ("image", "mask", "noise", "latents", "depth")

    def __init__(self, library=None, **settings):
        self.lib, self.struct, self.kept = library or default(), T.params(), {}
        self.pointer = C.byref(self.struct)
        self.lib.sd_params_init_sized(self.pointer, C.c_size_t(C.sizeof(self.struct)))
        self.set(**settings)

    def __del__(self):
        if hasattr(self, "pointer"):
            self.lib.sd_params_free(self.pointer)

    def set(self, **settings):
        error = C.create_string_buffer(512)
        for key, value in settings.items():
            if key in self.ARRAYS and not isinstance(value, (str, os.PathLike)):
                self.set_array(key, value)
                continue
            if isinstance(value, (list, tuple)) or hasattr(value, "tolist") and np.ndim(value):
                value = ",".join(repr(float(x)) if isinstance(x, (float, np.floating)) else str(x) for x in value)
            check(self.lib, self.lib.sd_params_set(self.pointer, key.encode(), word(value), error), error.value)

    def set_array(self, key, value):
        s = self.struct
        if key in ("noise", "latents"):
            x = None if value is None else floats(value, -1, -1, -1, -1)
            setattr(s, key, at(x))
            setattr(s, key + "_count", 0 if x is None else x.size)
        elif key == "depth":
            x = None if value is None else floats(value, -1, -1)
            s.edit.depth = at(x)
            s.edit.depth_height, s.edit.depth_width = (0, 0) if x is None else x.shape
        else:
            x = None if value is None else picture(value)
            setattr(s.edit, {"image": "init", "mask": "mask"}[key], None if x is None else C.addressof(x[0]))
        self.kept[key] = x

    def get(self, key):
        error, text = C.create_string_buffer(512), C.c_char_p()
        check(self.lib, self.lib.sd_params_get(self.pointer, key.encode(), C.byref(text), error), error.value)
        return taken(self.lib, text)


def taken(lib, text):
    """A text that the caller must free."""
    value = None if text.value is None else text.value.decode(errors="replace")
    lib.sd_free(text)
    return value


def picture(x):
    """sd_image for bytes [H,W], [H,W,1], [H,W,3] or [H,W,4], and the array that has them."""
    x = np.ascontiguousarray(x)
    if x.dtype != np.uint8 or x.ndim not in (2, 3):
        raise Error("a picture is bytes [height,width,channels], not %s %s" % (x.dtype, list(x.shape)), "argument")
    channels = 1 if x.ndim == 2 else x.shape[2]
    return T.image(x.shape[1], x.shape[0], channels, x.ctypes.data), x


# ---------------------------------------------------------------------------------------------------- watching a run

class Progress:
    """True: a bar of tqdm, if there is one; a function: called with stage, done, total and seconds."""

    def __init__(self, how):
        self.tell, self.bar = how if callable(how) else None, None
        if how is True:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self.bar = tqdm(unit="step")

    def __call__(self, stage, done, total, seconds):
        if self.tell:
            self.tell(stage, done, total, seconds)
        if self.bar is not None and stage == "step":
            self.bar.total, self.bar.n = total, done
            self.bar.refresh()

    def close(self):
        if self.bar is not None:
            self.bar.close()


class Drawn:
    """images: bytes [batch,H,W,3], or None; latents: [batch,C,h,w], or None; trace: {name: array} in order."""

    def __init__(self, images=None, latents=None, trace=None, text=None):
        self.images, self.latents, self.trace, self.text = images, latents, trace, text


# ---------------------------------------------------------------------------------------------------- a model

class Model:
    """An opened model: a file or a directory. Options are those of sd_options: threads=2, precise=True, device="opencl",
    vae="FILE", parts="unet" or ["text", "unet"], residency="ram", gemm="openblas". library: its path; else find()."""

    def __init__(self, model=None, library=None, log=None, **options):
        self.ctx = C.c_void_p()
        self.lib = load(library) if isinstance(library, (str, os.PathLike)) else library or default()
        self.log = T.ON_LOG(lambda _, level, line: log(level, line.decode(errors="replace"))) if log else None
        o = sized(self.lib, "sd_options", model=word(model), log=C.cast(self.log, C.c_void_p) if log else None)
        set_options(o, {k: self.option(k, v) for k, v in options.items()}, [n for n, _ in o._fields_[2:]])
        self.check(self.lib.sd_open(C.byref(self.ctx), C.byref(o)))
        self.info = self.get_info()

    @staticmethod
    def option(key, value):
        if key == "parts":
            names = [value] if isinstance(value, (str, int)) else value
            return sum({T.PARTS[n] if isinstance(n, str) else n for n in names})
        if key in ("residency", "gemm") and isinstance(value, str):
            return {"residency": T.RESIDENCY, "gemm": T.GEMM}[key][value]
        return value

    def close(self):
        if getattr(self, "ctx", None):
            self.lib.sd_close(self.ctx)
            self.ctx = C.c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    __del__ = close

    def check(self, status):
        if status and not self.ctx and hasattr(self, "info"):
            raise Error("the model is closed", "argument")
        check(self.lib, status, self.lib.sd_error_text(self.ctx) if status else None)

    def call(self, function, *args):
        """A function of the library that takes the context first and returns a status."""
        self.check(getattr(self.lib, function)(self.ctx, *args))

    def get_info(self):
        info = T.model_info()
        self.call("sd_get_info_sized", C.byref(info), C.c_size_t(C.sizeof(info)))
        return as_dict(info)

    # ---- whole runs

    def watched(self, run, trace, progress):
        """run(), while tensors are kept and progress is told. What a callback raises ends the run, and is raised."""
        found, raised, tell = {}, [], Progress(progress)

        def guarded(function):
            def call(*args):
                try:
                    if not raised:
                        function(*args)
                except BaseException as e:   # KeyboardInterrupt, too
                    raised.append(e)
                    self.lib.sd_cancel(self.ctx)
            return call

        def told(_, p):
            p = p.contents
            tell(p.stage.decode(), p.done, p.total, p.seconds)
        on_trace = T.ON_TRACE(guarded(lambda _, t: found.update({t.contents.name.decode(): array_of(t.contents)})))
        on_progress = T.ON_PROGRESS(guarded(told))
        try:
            if trace:
                self.call("sd_set_trace", word(None if trace is True else trace), on_trace, None)
            self.lib.sd_set_progress(self.ctx, on_progress, None)
            status = run()
            if raised:
                raise raised[0]
            self.check(status)
        finally:
            self.lib.sd_set_progress(self.ctx, None, None)
            if trace:
                self.lib.sd_set_trace(self.ctx, None, None, None)
            tell.close()
        return found if trace else None

    def params(self, prompt=None, negative_prompt=None, **settings):
        p = Params(self.lib, prompt=prompt, negative_prompt=negative_prompt, **settings)
        for key in ("noise", "latents"):   # the library is told how many numbers there are, and not in which layout
            x = p.kept.get(key)
            if x is not None and x.shape[1] != self.info["latent_channels"]:
                raise Error("%s must be [batch,%d,h,w], not %s" % (key, self.info["latent_channels"], list(x.shape)), "shape")
        return p

    def resolve(self, **settings):
        """What a run with these parameters really uses, as texts: {"steps": "25", "sampler": "pndm", ...}."""
        p, resolved = self.params(**settings), Params(self.lib)
        self.call("sd_resolve_params", p.pointer, resolved.pointer)
        keys = [i.key.decode() for i in parameters(self.lib)]
        return {k: v for k, v in ((k, resolved.get(k)) for k in keys) if v is not None}

    def generate(self, prompt=None, negative_prompt=None, trace=None, progress=None, **settings):
        """Pictures: .images [batch,H,W,3]. trace: True, or globs, "latents.*,step.0.*". Settings are those of Params."""
        p = self.params(prompt, negative_prompt, **settings)
        images = (T.image * p.struct.batch)()
        try:
            found = self.watched(lambda: self.lib.sd_generate(self.ctx, p.pointer, images), trace, progress)
            made = [self.pixels(i) for i in images if i.data]
        finally:
            for i in images:
                self.lib.sd_image_free(C.byref(i))
        text = C.c_char_p()
        self.call("sd_parameters_text", p.pointer, C.byref(text))
        return Drawn(np.stack(made), trace=found, text=taken(self.lib, text))

    @staticmethod
    def pixels(i):
        size = i.width * i.height * i.channels
        return np.ctypeslib.as_array(C.cast(i.data, C.POINTER(C.c_uint8)), (size,)).reshape(i.height, i.width, i.channels).copy()

    def generate_latents(self, prompt=None, negative_prompt=None, trace=None, progress=None, **settings):
        """The last latents, .latents [batch,C,h,w], times scaling_factor; nothing is decoded."""
        p = self.params(prompt, negative_prompt, **settings)
        size = self.resolve(**dict(settings, prompt=prompt, negative_prompt=negative_prompt))
        height, width = (int(size[k]) // self.info["scale"] for k in ("height", "width"))
        x = np.empty((p.struct.batch, self.info["latent_channels"], height, width), np.float32)
        found = self.watched(lambda: self.lib.sd_generate_latents(self.ctx, p.pointer, C.c_void_p(at(x)), C.c_size_t(x.size)),
                             trace, progress)
        return Drawn(latents=x, trace=found)

    def trace_list(self, prompt=None, negative_prompt=None, only=None, **settings):
        """Names and shapes of what a run will trace, in order. Nothing is computed."""
        p, found = self.params(prompt, negative_prompt, **settings), {}
        see = T.ON_TRACE(lambda _, t: found.update({t.contents.name.decode(): tuple(t.contents.dim[:t.contents.nd])}))
        self.call("sd_trace_list", p.pointer, word(only), see, None)
        return found

    def schedule(self, **settings):
        """timesteps [n], sigmas [n + 1] and alphas [n + 1] of the evaluations that a sampler makes."""
        p, n = Params(self.lib, **settings), C.c_int()
        self.call("sd_schedule", p.pointer, C.byref(n), None, None, None)
        t, sigmas, alphas = np.empty(n.value), np.empty(n.value + 1), np.empty(n.value + 1)
        self.call("sd_schedule", p.pointer, C.byref(n), *(C.c_void_p(at(x)) for x in (t, sigmas, alphas)))
        return {"timesteps": t, "sigmas": sigmas, "alphas": alphas}

    # ---- stages

    def tokenize(self, text):
        """ids [77] with BOS, EOS and padding, how many come before the padding, and how many pieces did not fit."""
        t = T.tokens()
        self.call("sd_tokenize", word(text), C.byref(t))
        return {"ids": np.array(t.id, np.int32), "n": t.n, "dropped": t.dropped}

    def pieces(self, text):
        """The vocabulary's entries that a text is cut into, BOS and EOS included: ["<|startoftext|>", "cat</w>", ...]."""
        t = self.tokenize(text)
        return [self.lib.sd_token_piece(self.ctx, C.c_int32(int(i))).decode() for i in t["ids"][:t["n"]]]

    def encode_text(self, text, clip_skip=1, pooled=False):
        """[77,D] of one text, [n,77,D] of a list. pooled: also SDXL's vectors for the whole texts, [P] or [n,P]."""
        if not isinstance(text, (str, bytes)):
            each = [self.encode_text(t, clip_skip, True) for t in text]
            if not each:
                raise Error("there is no text to encode", "argument")
            context, vectors = (np.stack(x) for x in zip(*each))
        else:
            context = np.empty((77, self.info["context_dim"]), np.float32)
            vectors = np.empty(self.info["pooled_dim"], np.float32)
            first = (word(text), clip_skip, C.c_void_p(at(context)), C.c_size_t(context.size))
            if vectors.size:
                self.call("sd_encode_text_pooled", *first, C.c_void_p(at(vectors)), C.c_size_t(vectors.size))
            else:
                self.call("sd_encode_text", *first)
        return (context, vectors) if pooled else context

    def unet(self, sample, timestep, encoder_hidden_states, trace=None, **more):
        """One evaluation: sample [n,C,h,w], a timestep or one for each, context [n,77,D]; SDXL's text_embeds and time_ids,
        class_labels, timestep_cond. [n,C,h,w]; with trace: a pair, of that and {name: array}."""
        x = floats(sample, -1, self.info["in_channels"], -1, -1)
        n, _, h, w = x.shape
        widths = {"text_embeds": self.info["pooled_dim"], "time_ids": self.info["time_ids"],
                  "timestep_cond": self.info["time_cond_dim"]}
        given = {"sample": x, "timestep": np.ascontiguousarray(np.broadcast_to(np.float32(timestep), (n,))),
                 "encoder_hidden_states": floats(encoder_hidden_states, n, 77, self.info["context_dim"])}
        for key, value in more.items():
            if key == "class_labels":
                given[key] = np.ascontiguousarray(np.broadcast_to(np.int32(value), (n,)))
            elif key in widths:
                given[key] = floats(value, n, widths[key])
            else:
                raise Error("unet takes %s, not %s" % (", ".join([*widths, "class_labels"]), key), "argument")
        s = T.unet_input(C.sizeof(T.unet_input), n, h, w, **{k: at(v) for k, v in given.items()})
        y = np.empty((n, self.info["latent_channels"], h, w), np.float32)
        found = self.watched(lambda: self.lib.sd_unet_evaluate(self.ctx, C.byref(s), C.c_void_p(at(y))), trace, None)
        return (y, found) if trace else y

    def decode(self, latents, trace=None):
        """Pictures [n,3,8h,8w] in [-1,1] of the VAE's own latents [n,C,h,w]: those of the UNet / info["scaling_factor"]."""
        x, side = floats(latents, -1, self.info["latent_channels"], -1, -1), self.info["scale"]
        n, _, h, w = x.shape
        y = np.empty((n, 3, side * h, side * w), np.float32)
        found = self.watched(lambda: self.lib.sd_vae_decode(self.ctx, n, h, w, C.c_void_p(at(x)), C.c_void_p(at(y))), trace, None)
        return (y, found) if trace else y

    def encode(self, pictures, trace=None):
        """mean and logvar [n,C,h,w] of pictures [n,3,8h,8w] in [-1,1]."""
        x, side = floats(pictures, -1, 3, -1, -1), self.info["scale"]
        n, _, h, w = x.shape
        if h % side or w % side:
            raise Error("pictures must have sides that are multiples of %d, not %dx%d" % (side, w, h), "shape")
        y = [np.empty((n, self.info["latent_channels"], h // side, w // side), np.float32) for _ in range(2)]
        pointers = [C.c_void_p(at(a)) for a in (x, *y)]
        found = self.watched(lambda: self.lib.sd_vae_encode(self.ctx, n, h // side, w // side, *pointers), trace, None)
        return (*y, found) if trace else tuple(y)


# ---------------------------------------------------------------------------------------------------- without a model

def told(lib, function, *args):
    """Calls a function that makes a text and an error's sentence."""
    text, error = C.c_char_p(), C.create_string_buffer(512)
    check(lib, function(*args, C.byref(text), error), error.value)
    return json.loads(taken(lib, text))


def inspect(path, tensors=None, values=False, hash=False, library=None):
    """What a file of weights or a model directory is, as a dictionary (docs/FILES.md)."""
    lib = library or default()
    o = sized(lib, "sd_inspect_options", json=1, tensors=word(tensors), values=int(values), hash=int(hash))
    return told(lib, lib.sd_inspect, word(path), C.byref(o))


def compare(ref, mine, library=None, **options):
    """Where two traces part, as a dictionary (docs/VALIDATING.md): "different", "first", "last_good", "tensors", ...
    mine: a path; a list of them, where a batch was computed in several calls. options: names, floor, html, injected:
    paths; rtol, atol."""
    lib, different, text, error = library or default(), C.c_int(), C.c_char_p(), C.create_string_buffer(512)
    first, *more = [mine] if isinstance(mine, (str, os.PathLike)) else mine
    calls = (C.c_char_p * len(more))(*map(word, more))
    o = sized(lib, "sd_compare_options", json=1, n_calls=len(more), calls=C.cast(calls, C.c_void_p) if more else None)
    set_options(o, options, ("names", "floor", "html", "injected", "rtol", "atol"))
    check(lib, lib.sd_compare(word(ref), word(first), C.byref(o), C.byref(text), C.byref(different), error), error.value)
    return json.loads(taken(lib, text))


def plan(model, width=0, height=0, library=None):
    """The unrolled networks of a model or a family, as a dictionary."""
    lib = library or default()
    return told(lib, lib.sd_plan, word(model), width, height, 1)


def randn(seed, *shape, library=None):
    """torch.randn with torch.Generator("cpu").manual_seed(seed)."""
    x = np.empty(shape, np.float32)
    (library or default()).sd_randn(C.c_uint64(seed), C.c_void_p(at(x)), C.c_size_t(x.size))
    return x


def samplers(library=None):
    """One dictionary for each sampler: name, diffusers, a1111, order, ..."""
    lib, found = library or default(), []
    while True:
        info = T.sampler_info()
        if not lib.sd_get_sampler_sized(len(found), C.byref(info), C.c_size_t(C.sizeof(info))):
            return found
        found.append(as_dict(info))


def schedules(library=None):
    lib, names = library or default(), []
    while True:
        name = lib.sd_schedule_name(len(names))
        if not name:
            return names
        names.append(name.decode())

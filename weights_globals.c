/* weights_globals.c - floor 3: the names that a pickle may have, and what they mean. All others are refused.
 *
 * Nothing here is run or imported. A name that is inert only says of which class an object was, whose state is then
 * looked at; so a package may be listed as a whole when its classes are what people save. Builtins and the standard
 * library are listed one by one: what can run a program or read a file is not among them, so that a pickle made to do
 * harm is refused, not passed over. */
#include "weights.h"
#include "weights_pickle.h"

#include <string.h>

#define NO_DTYPE 0, 0
#define OBJECTS SD_GLOBAL_INERT, NO_DTYPE
#define BUILTINS "builtins"
#define BUILTINS_2 "__builtin__"   /* Python 2's name of the same */

static const sd_global globals[] = {
    {"", "", SD_GLOBAL_REFUSED, NO_DTYPE},
    /* containers */
    {"collections", "OrderedDict,defaultdict,Counter", SD_GLOBAL_DICT, NO_DTYPE},
    {BUILTINS, "dict", SD_GLOBAL_DICT, NO_DTYPE},
    {BUILTINS_2, "dict", SD_GLOBAL_DICT, NO_DTYPE},
    {BUILTINS, "set,frozenset", SD_GLOBAL_SET, NO_DTYPE},
    {BUILTINS_2, "set,frozenset", SD_GLOBAL_SET, NO_DTYPE},
    {BUILTINS, "list,tuple", SD_GLOBAL_FIRST, NO_DTYPE},
    {BUILTINS_2, "list,tuple", SD_GLOBAL_FIRST, NO_DTYPE},
    {"copyreg", "_reconstructor", SD_GLOBAL_REMADE, NO_DTYPE},
    {"copy_reg", "_reconstructor", SD_GLOBAL_REMADE, NO_DTYPE},
    /* tensors */
    {"torch._utils", "_rebuild_tensor,_rebuild_tensor_v2", SD_GLOBAL_TENSOR, NO_DTYPE},
    {"torch._utils", "_rebuild_tensor_v3", SD_GLOBAL_TENSOR_TYPED, NO_DTYPE},
    {"torch._utils", "_rebuild_parameter,_rebuild_parameter_with_state", SD_GLOBAL_FIRST, NO_DTYPE},
    {"torch._tensor", "_rebuild_from_type_v2", SD_GLOBAL_OF_TYPE, NO_DTYPE},
    {"torch._utils", "_rebuild_*", SD_GLOBAL_OTHER_TENSOR, NO_DTYPE},
    {"torch", "Size", SD_GLOBAL_FIRST, NO_DTYPE},
    {"torch.jit._pickle", "build_*list,restore_type_tag", SD_GLOBAL_FIRST, NO_DTYPE},
    /* their storages; older releases had those of GPUs under names of their own */
#define STORAGE(name, dt, size) {"torch", name, SD_GLOBAL_STORAGE, dt, size}, \
                                {"torch.cuda", name, SD_GLOBAL_STORAGE, dt, size}
    STORAGE("FloatStorage", SD_F32, 4), STORAGE("HalfStorage", SD_F16, 2), STORAGE("BFloat16Storage", SD_BF16, 2),
    STORAGE("DoubleStorage", SD_F64, 8), STORAGE("LongStorage", SD_I64, 8), STORAGE("IntStorage", SD_I32, 4),
    STORAGE("ShortStorage", SD_I16, 2), STORAGE("CharStorage", SD_I8, 1), STORAGE("ByteStorage", SD_U8, 1),
    STORAGE("BoolStorage", SD_BOOL, 1), STORAGE("ComplexFloatStorage", SD_DTYPE_UNKNOWN, 8),
    STORAGE("ComplexDoubleStorage", SD_DTYPE_UNKNOWN, 16), STORAGE("QInt8Storage", SD_DTYPE_UNKNOWN, 1),
    STORAGE("QUInt8Storage", SD_DTYPE_UNKNOWN, 1), STORAGE("QInt32Storage", SD_DTYPE_UNKNOWN, 4),
    {"torch.storage", "UntypedStorage,_UntypedStorage", SD_GLOBAL_STORAGE, SD_U8, 1},
    /* their types */
#define DTYPE(name, dt, size) {"torch", name, SD_GLOBAL_DTYPE, dt, size}
    DTYPE("float32", SD_F32, 4), DTYPE("float16", SD_F16, 2), DTYPE("bfloat16", SD_BF16, 2),
    DTYPE("float64", SD_F64, 8), DTYPE("int64", SD_I64, 8), DTYPE("int32", SD_I32, 4), DTYPE("int16", SD_I16, 2),
    DTYPE("int8", SD_I8, 1), DTYPE("uint8", SD_U8, 1), DTYPE("bool", SD_BOOL, 1),
    DTYPE("float8_e4m3fn", SD_F8_E4M3, 1), DTYPE("float8_e5m2", SD_F8_E5M2, 1),
    DTYPE("float8_e4m3fnuz,float8_e5m2fnuz,float8_e8m0fnu,float4_e2m1fn_x2", SD_DTYPE_UNKNOWN, 1),
    DTYPE("uint16", SD_DTYPE_UNKNOWN, 2), DTYPE("uint32", SD_DTYPE_UNKNOWN, 4), DTYPE("uint64", SD_DTYPE_UNKNOWN, 8),
    DTYPE("complex32", SD_DTYPE_UNKNOWN, 4), DTYPE("complex64", SD_DTYPE_UNKNOWN, 8),
    DTYPE("complex128", SD_DTYPE_UNKNOWN, 16),
    /* what else torch writes beside tensors */
    {"torch", "device,Generator,Tensor,strided,contiguous_format,channels_last,preserve_format", OBJECTS},
    {"torch.serialization", "_get_layout", OBJECTS},
    {"torch.storage", "TypedStorage,_TypedStorage", OBJECTS},
    {"torch.nn", "*", OBJECTS}, {"torch.nn.*", "*", OBJECTS}, {"torch.optim", "*", OBJECTS},
    {"torch.optim.*", "*", OBJECTS}, {"torch._C._nn", "gelu,silu,relu6,leaky_relu,hardtanh", OBJECTS},
    {"torch.cuda.amp.grad_scaler", "*", OBJECTS}, {"torch.amp.grad_scaler", "*", OBJECTS},
    {"__torch__", "*", OBJECTS}, {"__torch__.*", "*", OBJECTS},
    /* numbers of numpy, and Python's own kinds of data */
    {"numpy.core.multiarray", "scalar,_reconstruct", OBJECTS},
    {"numpy._core.multiarray", "scalar,_reconstruct", OBJECTS},
    {"numpy.core.numeric", "_frombuffer", OBJECTS}, {"numpy._core.numeric", "_frombuffer", OBJECTS},
    {"numpy", "dtype,ndarray,bool_,float16,float32,float64,int8,int16,int32,int64,uint8,uint16,uint32,uint64", OBJECTS},
    {"numpy.dtypes", "*", OBJECTS}, {"numpy.random._pickle", "__*_ctor", OBJECTS},
    {"numpy.random._mt19937", "MT19937", OBJECTS}, {"numpy.random._pcg64", "PCG64", OBJECTS},
    {"_codecs", "encode", OBJECTS},
    {BUILTINS, "object,bytearray,bytes,complex,int,float,str,bool,slice,range", OBJECTS},
    {BUILTINS_2, "object,bytearray,bytes,complex,int,long,float,str,unicode,bool,slice,xrange", OBJECTS},
    {"collections", "deque", OBJECTS}, {"argparse", "Namespace", OBJECTS}, {"types", "SimpleNamespace", OBJECTS},
    {"functools", "partial", OBJECTS}, {"re", "_compile", OBJECTS},
    {"datetime", "datetime,date,time,timedelta,timezone", OBJECTS},
    {"pathlib", "*Path", OBJECTS}, {"pathlib._local", "*Path", OBJECTS}, {"decimal", "Decimal", OBJECTS},
    {"fractions", "Fraction", OBJECTS}, {"uuid", "UUID", OBJECTS},
    {"typing", "Any,Union,Optional,List,Dict,Tuple,Callable,Sequence", OBJECTS},
    /* training programs and their settings */
#define PACKAGE(name) {name, "*", OBJECTS}, {name ".*", "*", OBJECTS}
    PACKAGE("pytorch_lightning"), PACKAGE("lightning"), PACKAGE("lightning_fabric"), PACKAGE("lightning_utilities"),
    PACKAGE("torchmetrics"), PACKAGE("accelerate"), PACKAGE("peft"), PACKAGE("lycoris"), PACKAGE("bitsandbytes"),
    PACKAGE("omegaconf"), PACKAGE("easydict"), PACKAGE("addict"), PACKAGE("yacs"), PACKAGE("ml_collections"),
    PACKAGE("ema_pytorch"), PACKAGE("torch_ema"),
    /* networks, saved whole; the last of them are what people call their own */
    PACKAGE("diffusers"), PACKAGE("transformers"), PACKAGE("ldm"), PACKAGE("sgm"), PACKAGE("cldm"), PACKAGE("taming"),
    PACKAGE("open_clip"), PACKAGE("clip"), PACKAGE("k_diffusion"), PACKAGE("torchvision"), PACKAGE("timm"),
    PACKAGE("basicsr"), PACKAGE("realesrgan"), PACKAGE("gfpgan"), PACKAGE("facexlib"), PACKAGE("spandrel"),
    PACKAGE("ultralytics"), PACKAGE("kornia"), PACKAGE("xformers"), PACKAGE("einops"), PACKAGE("RRDBNet_arch"),
    PACKAGE("architecture"), PACKAGE("archs"), PACKAGE("models"), PACKAGE("model"), PACKAGE("modules"),
    PACKAGE("networks"), PACKAGE("network"), {"__main__", "*", OBJECTS},
};

/* A name with a dot leads through attributes to whatever they have: torch.nn's "modules.os.system". */
uint32_t sd_global_find(const char *module, const char *name)
{
    if (!*name || strchr(name, '.')) return 0;
    for (uint32_t i = 1; i < SD_COUNT(globals); i++)
        if (sd_glob(globals[i].module, module) && sd_glob_list(globals[i].names, name)) return i;
    return 0;
}

const sd_global *sd_global_at(uint32_t row) { return &globals[row < SD_COUNT(globals) ? row : 0]; }

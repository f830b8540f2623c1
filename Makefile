# Builds sd, libsd.a and libsd.so, and runs what proves them. `make help` lists targets and switches. GNU make.

# ------------------------------------------------------------------------------------------ switches
BLAS     ?= openblas
OPENMP   ?= 1
PNG      ?= 1
JPEG     ?= 1
UTF8PROC ?= 1
ZLIB     ?= 1
OPENCL   ?= 0
SIMDE    ?= 0

PREFIX   ?= /usr/local
DESTDIR  ?=
CFLAGS   ?= -O3
PYTHON   ?= python3

BUILD    ?= build
# Where sd and the libraries go: beside the sources, unless a second build stands next to the first.
OUT      ?= .

# ---------------------------------------------------------------------------- packages come first
# What is installed is looked up when this file is read. So `make deps demo` installs, then reads it again for `demo`.
SETUP := deps deps-dev
ifneq ($(filter $(SETUP),$(MAKECMDGOALS)),)
LATER := $(filter-out $(SETUP),$(MAKECMDGOALS))
.NOTPARALLEL:
.PHONY: $(SETUP) $(LATER)
$(SETUP):
	@OPENCL="$(OPENCL)" sh tools/deps.sh $@
$(LATER): $(filter $(SETUP),$(MAKECMDGOALS))
	@$(MAKE) --no-print-directory $@
else

# ------------------------------------------------------------------------------------------- sources
# A file's name says where it belongs (docs/MAP.md): main.c and app_* are the program, all else is the library. These are compiled once per
# instruction set.
TEMPLATES := kernels_simd.c kernels_precise.c kernels_winograd.c
APP_SRC := main.c $(sort $(wildcard app_*.c))
OPENCL_SRC := $(sort $(wildcard ops_opencl*.c))
LIB_SRC := $(filter-out $(APP_SRC) $(TEMPLATES) $(if $(filter 1,$(OPENCL)),,$(OPENCL_SRC)),$(sort $(wildcard *.c)))
TEST_SRC := $(filter-out $(if $(filter 1,$(OPENCL)),,tests/test_opencl%.c),$(sort $(wildcard tests/test_*.c)))
FUZZ_SRC := $(sort $(wildcard tests/fuzz_*.c))
# Those whose goldens hold for any device
DEVICE_TESTS := bands cond clip edit few generate parts refiner sdxl taesd tasks tiny trace trace_write unet vae
HELPER_SRC := $(filter-out tests/test_%.c tests/fuzz%.c tests/cl_wrapper.c,$(sort $(wildcard tests/*.c)))

VERSION := $(shell sed -n 's/^\#define SD_VERSION "\(.*\)"/\1/p' sd.h)
SOVERSION := 0

# --------------------------------------------------------------------------------------------- flags
ifeq ($(filter openblas none,$(BLAS)),)
$(error BLAS must be openblas or none, not "$(BLAS)")
endif
one_or_zero = $(if $(filter 0 1,$($(1))),,$(error $(1) must be 1 or 0, not "$($(1))"))
$(foreach s,OPENMP PNG JPEG UTF8PROC ZLIB OPENCL SIMDE,$(call one_or_zero,$(s)))

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion $(if $(WERROR),-Werror)
# No fused or reassociated arithmetic: a result must not depend on the compiler. That libm leaves errno alone changes no value.
# They come after CFLAGS and win. What remains of -ffast-math then, that NaN may not occur, kernels.h refuses.
EXACT := -ffp-contract=off -fno-unsafe-math-optimizations -fno-math-errno
# 32-bit x86, by the compiler's name or by -m32: its old floating point unit calculates with more digits than a type has, which changes
# bits. Without SSE2, kernels.h refuses.
I386 := $(shell echo __i386__ | $(CC) $(CFLAGS) -E -P -x c - 2>/dev/null | grep -x 1)
EXACT += $(if $(I386),-msse2 -mfpmath=sse)
FLAGS := -std=c99 $(CFLAGS) $(WARN) $(EXACT) -fPIC -fvisibility=hidden
DEFS := -DSD_BUILD_SHARED $(CPPFLAGS)
LIBS :=

MACHINE := $(shell $(CC) $(CFLAGS) -dumpmachine 2>/dev/null)
HOST_ARCH := $(patsubst arm64,aarch64,$(patsubst amd64,x86_64,$(shell uname -m)))
HOST_OS := $(shell uname -s | tr A-Z a-z | cut -c1-4)
# A compiler for another machine: what this machine's pkg-config says of this machine's libraries is not for it. Debian names the right
# one after the target; where there is none, the libraries' usual names have to do.
CROSS := $(if $(and $(filter $(HOST_ARCH)-%,$(patsubst arm64-%,aarch64-%,$(MACHINE))),$(findstring $(HOST_OS),$(MACHINE))),,1)
PKG_CONFIG ?= $(if $(CROSS),$(MACHINE)-pkg-config,pkg-config)
HAVE_PKG := $(shell $(PKG_CONFIG) --version 2>/dev/null)
# $(call cflags,package) and $(call libs,package,fallback). Foreign headers are system headers: their warnings are not ours.
cflags = $(if $(HAVE_PKG),$(patsubst -I%,-isystem%,$(shell $(PKG_CONFIG) --cflags $(1) 2>/dev/null)))
libs = $(or $(if $(HAVE_PKG),$(shell $(PKG_CONFIG) --libs $(1) 2>/dev/null)),$(2))

# What is looked for before anything is compiled: header:switch that turns it off:what to link.
NEEDS :=
need = $(1):$(2):$(subst $(eval) ,:,$(strip $(3)))
ifeq ($(BLAS),openblas)
DEFS += -DSD_WITH_OPENBLAS=1
endif
ifeq ($(PNG),1)
DEFS += -DSD_WITH_PNG=1 $(call cflags,libpng)
PNG_LIBS := $(call libs,libpng,-lpng) $(call libs,zlib,-lz)
NEEDS += $(call need,png.h,PNG=0,$(PNG_LIBS)) $(call need,zlib.h,PNG=0,$(PNG_LIBS))
endif
ifeq ($(JPEG),1)
DEFS += -DSD_WITH_JPEG=1 $(call cflags,libjpeg)
JPEG_LIBS := $(call libs,libjpeg,-ljpeg)
NEEDS += $(call need,jpeglib.h,JPEG=0,$(JPEG_LIBS))
endif
ifeq ($(UTF8PROC),1)
DEFS += -DSD_WITH_UTF8PROC=1 $(call cflags,libutf8proc)
UTF8PROC_LIBS := $(call libs,libutf8proc,-lutf8proc)
NEEDS += $(call need,utf8proc.h,UTF8PROC=0,$(UTF8PROC_LIBS))
endif
ifeq ($(ZLIB),1)
DEFS += -DSD_WITH_ZLIB=1 $(call cflags,zlib)
ZLIB_LIBS := $(call libs,zlib,-lz)
NEEDS += $(call need,zlib.h,ZLIB=0,$(ZLIB_LIBS))
endif
ifeq ($(OPENCL),1)
DEFS += -DSD_WITH_OPENCL=1 $(call cflags,OpenCL)
OPENCL_LIBS := $(call libs,OpenCL,$(if $(filter Darwin,$(shell uname -s)),-framework OpenCL,-lOpenCL))
NEEDS += $(call need,CL/cl.h,OPENCL=0,$(OPENCL_LIBS))
endif
LIBS += $(PNG_LIBS) $(JPEG_LIBS) $(UTF8PROC_LIBS) $(ZLIB_LIBS) $(OPENCL_LIBS)
ifeq ($(OPENMP),1)
FLAGS += -fopenmp
NEEDS += omp.h:OPENMP=0:-fopenmp
else
FLAGS += -Wno-unknown-pragmas
endif
LIBS += -lm $(if $(findstring linux,$(MACHINE)),-ldl)
CMOCKA := $(call libs,cmocka,-lcmocka)

# kernels_simd.c, kernels_precise.c and kernels_winograd.c once per instruction set; the best one is chosen when the program starts.
# ISA=scalar: for that one alone, which saves a compiler of sanitizers minutes and gigabytes.
ISAS := $(strip $(if $(I386),,$(if $(filter x86_64-% amd64-%,$(MACHINE)),avx512 avx2 sse2)) \
               $(if $(filter aarch64-% arm64-%,$(MACHINE)),neon) $(if $(filter 1,$(SIMDE)),neon) scalar)
ISA ?= $(ISAS)
ifneq ($(if $(filter scalar,$(ISA)),$(filter-out $(ISAS),$(ISA)),x),)
$(error ISA must be scalar, alone or with others of $(ISAS), not "$(ISA)")
endif
HAVE_sse2   := -DSD_HAVE_SSE2
HAVE_avx2   := -DSD_HAVE_AVX2
HAVE_avx512 := -DSD_HAVE_AVX512
HAVE_neon   := -DSD_HAVE_NEON
EMULATED := $(if $(filter 1,$(SIMDE)),avx512 neon)
DEFS += $(foreach i,$(filter-out $(EMULATED),$(ISA)),$(HAVE_$(i)))
# Without vectors the specification is kernels.c itself.
PRECISE := $(filter-out scalar,$(ISA))
# On x86 loops begin where a line of the cache does. Where the products' loop happened to lie made 5% of a convolution's time (docs/SPEED.md).
ALIGNED := $(shell $(CC) -Werror -falign-loops=64 -E -x c /dev/null >/dev/null 2>&1 && echo -falign-loops=64)
FLAGS_scalar := -DSD_ISA_SCALAR
FLAGS_sse2   := -DSD_ISA_SSE2 $(ALIGNED)
FLAGS_avx2   := -DSD_ISA_AVX2 -mavx2 -mfma -mf16c $(ALIGNED)
FLAGS_avx512 := -DSD_ISA_AVX512 -mavx512f $(ALIGNED)
FLAGS_neon   := -DSD_ISA_NEON
# For tests on an x86 processor that has neither: kernels of AVX-512 and NEON in instructions of AVX2, by SIMDe. No run chooses them but by
# their names. -O1: with more, gcc takes over ten minutes for AVX-512's.
ifneq ($(EMULATED),)
$(if $(filter-out $(ISA),$(EMULATED) avx2),$(error SIMDE=1 needs x86-64 and $(EMULATED) avx2 in ISA, which is "$(ISA)"))
DEFS += -DSD_WITH_SIMDE=1
NEEDS += $(call need,simde/x86/avx512.h,SIMDE=0,)
FLAGS_avx512 := $(FLAGS_avx2:%AVX2=%AVX512) -Itests/emulated/avx512 -Wno-psabi -O1
FLAGS_neon   := $(FLAGS_avx2:%AVX2=%NEON) -Itests/emulated/neon -O1
endif

ifeq ($(shell uname -s),Darwin)
SHARED := libsd.dylib
SHARED_INSTALLED := libsd.$(SOVERSION).dylib
SHARED_FLAGS := -dynamiclib -install_name $(PREFIX)/lib/$(SHARED_INSTALLED)
else
SHARED := libsd.so
SHARED_INSTALLED := libsd.so.$(SOVERSION)
SHARED_FLAGS := -shared -Wl,-soname,$(SHARED_INSTALLED)
endif

# ------------------------------------------------------------------------------------------- targets
.PHONY: all test test-full test-samplers demo pictures plans man install uninstall lint asan help clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

# One short line per command; V=1 shows them whole.
say = $(if $(V),,@echo '  $(1)' $@;)

# The kernels take a compiler longest and come first, lest one core waits for them at the end of `make -j2`.
LIB_OBJ := $(ISA:%=$(BUILD)/kernels_%.o) $(ISA:%=$(BUILD)/winograd_%.o) $(PRECISE:%=$(BUILD)/precise_%.o) \
           $(LIB_SRC:%.c=$(BUILD)/%.o) $(if $(filter 1,$(OPENCL)),$(BUILD)/opencl_sources.o)
APP_OBJ := $(APP_SRC:%.c=$(BUILD)/%.o)
HELPERS := $(BUILD)/tests/helpers.a
TESTS := $(TEST_SRC:%.c=$(BUILD)/%)
# So many run at a time, for most have one thread; alone: those that ask how soon something stops, and those of a device, for they share its
# memory.
JOBS ?= 2
ALONE := $(filter $(addprefix $(BUILD)/tests/test_,bad_input cli inspect limits opencl%),$(TESTS))
EXAMPLE := $(BUILD)/examples/txt2img
CONFIG := $(BUILD)/config

all: $(OUT)/sd $(OUT)/libsd.a $(OUT)/$(SHARED)

$(OUT)/sd: $(APP_OBJ) $(OUT)/libsd.a
	$(call say,LINK)$(CC) $(FLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(OUT)/libsd.a: $(LIB_OBJ)
	@rm -f $@
	$(call say,AR  )$(AR) rcs $@ $^

$(OUT)/$(SHARED): $(LIB_OBJ)
	$(call say,LINK)$(CC) $(FLAGS) $(LDFLAGS) $(SHARED_FLAGS) -o $@ $^ $(LIBS)

$(BUILD)/%.o: %.c $(CONFIG)
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(FLAGS) $(DEFS) $(EXTRA) -MMD -MP -c -o $@ $<

$(ISA:%=$(BUILD)/winograd_%.o): $(BUILD)/winograd_%.o: kernels_winograd.c $(CONFIG)
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(FLAGS) $(DEFS) $(FLAGS_$*) -MMD -MP -c -o $@ $<

$(PRECISE:%=$(BUILD)/precise_%.o): $(BUILD)/precise_%.o: kernels_precise.c $(CONFIG)
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(FLAGS) $(DEFS) $(FLAGS_$*) -MMD -MP -c -o $@ $<

$(ISA:%=$(BUILD)/kernels_%.o): $(BUILD)/kernels_%.o: kernels_simd.c $(CONFIG)
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(FLAGS) $(DEFS) $(FLAGS_$*) -MMD -MP -c -o $@ $<

# The kernels of an OpenCL device are part of the program.
OPENCL_CL := $(sort $(wildcard opencl/*.cl))
$(BUILD)/opencl_sources.c: $(OPENCL_CL) tools/embed.sh
	@mkdir -p $(@D)
	@sh tools/embed.sh $(OPENCL_CL) > $@
$(BUILD)/opencl_sources.o: EXTRA := -I.
$(BUILD)/opencl_sources.o: $(BUILD)/opencl_sources.c $(CONFIG)
	$(call say,CC  )$(CC) $(FLAGS) $(DEFS) $(EXTRA) -MMD -MP -c -o $@ $<

# Only sd.c knows where `make install` puts the data, so that another PREFIX costs one file.
$(BUILD)/sd.o: EXTRA := -DSD_DATADIR='"$(PREFIX)/share/sd"'
$(BUILD)/sd.o: $(BUILD)/prefix

$(BUILD)/tests/helpers.a: $(HELPER_SRC:%.c=$(BUILD)/%.o)
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR  )$(AR) rcs $@ $^

$(TESTS): $(BUILD)/%: $(BUILD)/%.o $(HELPERS) $(OUT)/libsd.a
	$(call say,LINK)$(CC) $(FLAGS) $(LDFLAGS) -pthread -o $@ $^ $(CMOCKA) $(LIBS)

# OpenCL that fails when it is told to stands between these and the library, which is not linked.
ALLOCATORS := malloc calloc realloc posix_memalign free
CL_WRAPPED := $(addprefix $(BUILD)/tests/,test_opencl_faults test_opencl_launch test_opencl_recovery sd_faults)
$(CL_WRAPPED): private LIBS := $(filter-out $(OPENCL_LIBS),$(LIBS)) -ldl $(ALLOCATORS:%=-Wl,--wrap=%)
$(CL_WRAPPED): $(BUILD)/tests/cl_wrapper.o
$(BUILD)/tests/test_opencl_faults: | $(BUILD)/tests/sd_faults
$(BUILD)/tests/sd_faults: $(APP_OBJ) $(OUT)/libsd.a
	$(call say,LINK)$(CC) $(FLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# This one runs the benchmark's program.
$(BUILD)/tests/test_bench: | $(BUILD)/tools/bench

$(EXAMPLE:%=%.o): EXTRA := -I.
$(EXAMPLE): %: %.o $(OUT)/libsd.a
	$(call say,LINK)$(CC) $(FLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# Files that change only when what is written in them does: whatever depends on them is then built again.
write_if_new = @mkdir -p $(@D); printf '%s\n' '$(subst ','\'',$(1))' | cmp -s - $@ || 
$(CONFIG): FORCE
	$(call write_if_new,$(CC) $(FLAGS) $(DEFS) $(LDFLAGS) $(LIBS) $(CMOCKA) $(LIB_SRC)) { \
	  for need in $(NEEDS); do \
	    header=$${need%%:*}; rest=$${need#*:}; switch=$${rest%%:*}; link=$$(printf '%s' "$${rest#*:}" | tr : ' '); \
	    printf '#include <stddef.h>\n#include <stdio.h>\n#include <%s>\nint main(void) { return 0; }\n' "$$header" > $@.c; \
	    if ! $(CC) $(FLAGS) $(DEFS) -E $@.c >/dev/null 2>&1; then what=$$header; \
	    elif ! $(CC) $(FLAGS) -w $(DEFS) $(LDFLAGS) -o $@.out $@.c $$link >/dev/null 2>&1; then what="what $$link links"; \
	    else continue; fi; \
	    rm -f $@.c $@.out; \
	    echo "$$what is not there for $(CC): run 'make deps', or build with $$switch" >&2; exit 1; \
	  done; \
	  rm -f $@.c $@.out; \
	  printf '%s\n' '$(subst ','\'',$(CC) $(FLAGS) $(DEFS) $(LDFLAGS) $(LIBS) $(CMOCKA) $(LIB_SRC))' > $@; }
$(BUILD)/prefix: FORCE
	$(call write_if_new,$(PREFIX)) printf '%s\n' '$(PREFIX)' > $@

-include $(wildcard $(BUILD)/*.d $(BUILD)/*/*.d)

# --------------------------------------------------------------------------------------------- tests
test: $(OUT)/sd $(TESTS) $(EXAMPLE)
	@JOBS=$(JOBS) SD_PROGRAM=$(OUT)/sd SD_BENCH=$(BUILD)/tools/bench sh tools/run_tests.sh $(filter-out $(ALONE),$(TESTS)) \
	  -- $(ALONE) -- $(EXAMPLE) $(BUILD)/example.$(if $(filter 1,$(PNG)),png,ppm)
	@if [ -n "$(findstring sanitize,$(CFLAGS))" ]; then echo "bindings/python: skipped, Python does not load a sanitizer's library"; \
	elif $(PYTHON) -c "import numpy" 2>/dev/null; then $(MAKE) --no-print-directory test-python; \
	else echo "bindings/python: skipped, needs Python with numpy"; fi

# What a device computes, held to the CPU's bounds: operations, networks and whole runs, one program at a time, for they share its memory; and
# every kernel under Oclgrind, which sees what a device may hide. SD_DEVICE=opencl:NAME chooses another device than the first; without a
# GPU, PoCL serves.
.PHONY: test-opencl test-device test-oclgrind
ON_DEVICE := $(filter $(TESTS),$(addprefix $(BUILD)/tests/test_,ops $(DEVICE_TESTS)) $(filter $(BUILD)/tests/test_opencl%,$(TESTS)))
SD_DEVICE ?= opencl
ifeq ($(OPENCL),1)
# test_opencl_launch asks how soon a kernel stops, of the best of four tries, so Oclgrind may run beside it.
test-opencl: test-oclgrind test-device
test-device: $(OUT)/sd $(ON_DEVICE) $(EXAMPLE)
	@SD_DEVICE="$(SD_DEVICE)" POCL_CACHE_DIR=$(CURDIR)/$(BUILD)/pocl XDG_CACHE_HOME=$(CURDIR)/$(BUILD)/cache SD_PROGRAM=$(OUT)/sd \
	  sh tools/run_tests.sh -- $(ON_DEVICE) -- $(EXAMPLE) $(BUILD)/example.$(if $(filter 1,$(PNG)),png,ppm)
test-oclgrind: test-oclgrind-accesses test-oclgrind-written
test-oclgrind-%: $(BUILD)/tests/test_opencl_kernels
	@sh tools/oclgrind.sh $* $<
else
test-opencl test-device test-oclgrind:
	@$(MAKE) --no-print-directory OPENCL=1 BUILD=build/opencl OUT=build/opencl $@
endif

# Instruction sets that this machine has not (SIMDE=1, above): the tests that go through every set, and the example's picture by AVX-512's.
.PHONY: test-emulated
EACH_ISA := $(addprefix $(BUILD)/tests/test_,kernels winograd attention bands selftest show_tensors types)
ifeq ($(SIMDE),1)
test-emulated: $(OUT)/sd $(EACH_ISA) $(EXAMPLE)
	@JOBS=$(JOBS) SD_ISA=avx512 SD_PROGRAM=$(OUT)/sd \
	  sh tools/run_tests.sh $(EACH_ISA) -- -- $(EXAMPLE) $(BUILD)/example.$(if $(filter 1,$(PNG)),png,ppm)
else
test-emulated:
	@$(MAKE) --no-print-directory SIMDE=1 BUILD=build/emulated OUT=build/emulated $@
endif

# The program with failing allocations and system calls; see tests/faults/run_faults.c. For Linux with glibc.
.PHONY: test-faults
FAULTS := $(BUILD)/tests/faults/run_faults $(BUILD)/tests/faults/fail_alloc.so
test-faults: $(OUT)/sd $(FAULTS)
	$(BUILD)/tests/faults/run_faults alloc $(OUT)/sd $(CURDIR)/$(BUILD)/tests/faults/fail_alloc.so
	$(BUILD)/tests/faults/run_faults io $(OUT)/sd
$(BUILD)/tests/faults/run_faults: $(BUILD)/tests/faults/run_faults.o
	$(call say,LINK)$(CC) $(FLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
$(BUILD)/tests/faults/fail_alloc.o: EXTRA := -fvisibility=default
$(BUILD)/tests/faults/fail_alloc.so: $(BUILD)/tests/faults/fail_alloc.o
	$(call say,LINK)$(CC) $(FLAGS) $(LDFLAGS) -shared -o $@ $^

# -O1: with -O2 vector kernels take the compiler nearly twice as long. AVX-512's, which take longest, are left out on a machine that cannot
# run them: no test could call them.
SANITIZE := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
asan: CANNOT_RUN := $(shell [ ! -r /proc/cpuinfo ] || grep -qw avx512f /proc/cpuinfo || echo avx512)
asan: LEFT_OUT = $(filter $(CANNOT_RUN),$(ISA))
asan:
	$(if $(LEFT_OUT),@echo "kernels of $(LEFT_OUT): left out; this machine cannot run them")
	@$(MAKE) --no-print-directory BUILD=build/asan OUT=build/asan CFLAGS="$(SANITIZE)" ISA="$(filter-out $(LEFT_OUT),$(ISA))" test

# Anything fed to every reader; what was found stays in build/fuzz/corpus and is where the next run begins. `fuzz-build`: programs alone,
# which read the files that they are given; with another compiler than clang, too.
.PHONY: fuzz fuzz-build
FUZZ ?= $(basename $(notdir $(FUZZ_SRC)))
FUZZ_SECONDS ?= 60
fuzz:
	@CC=$${CC:-clang} MAKE="$(MAKE)" sh tools/fuzz.sh $(FUZZ_SECONDS) $(FUZZ)
FUZZERS := $(FUZZ_SRC:%.c=$(BUILD)/%)
fuzz-build: $(FUZZERS)
$(FUZZERS): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/tests/fuzz.o $(OUT)/libsd.a
	$(call say,LINK)$(CC) $(FLAGS) $(LDFLAGS) $(FUZZ_LINK) -o $@ $(filter %.o,$^) $(OUT)/libsd.a $(LIBS)
# One of them calls the program's main, which needs another name then.
$(BUILD)/tests/fuzz_options: $(APP_OBJ:$(BUILD)/main.o=$(BUILD)/fuzz/main.o)
$(BUILD)/fuzz/main.o: EXTRA := -Dmain=sd_program
$(BUILD)/fuzz/main.o: main.c $(CONFIG)
	@mkdir -p $(@D)
	$(call say,CC  )$(CC) $(FLAGS) $(DEFS) $(EXTRA) -MMD -MP -c -o $@ $<

ifdef FAMILY
test-full: $(OUT)/$(SHARED)
	$(PYTHON) tools/test_families.py $(FAMILY) --library $(OUT)/$(SHARED)
else
test-full: $(OUT)/sd
	$(PYTHON) tools/test_full.py --program ./sd
	$(PYTHON) tools/test_full.py --program ./sd --brief --size 256 --steps 5 --task img2img --strength 0.2 0.5 0.8 1
	$(PYTHON) tools/test_full.py --program ./sd --brief --size 256 --steps 5 --task inpaint --strength 0.5 1
	$(PYTHON) tools/test_full.py --program ./sd --brief --size 256 --steps 5 --task inpaint9 --config sd15-inpaint \
	  --strength 0.5 1
endif

test-samplers: $(OUT)/$(SHARED)
	$(PYTHON) tools/test_samplers.py --library $(OUT)/$(SHARED)

# Needs the oracle.
.PHONY: test-diagnosis
test-diagnosis: $(OUT)/sd
	$(PYTHON) tools/seeded_faults.py --sd $(OUT)/sd --out $(BUILD)/faults

# The bindings, and traces of diffusers where it is installed; what is missing is said. They need numpy.
.PHONY: test-python
test-python: $(OUT)/sd $(OUT)/$(SHARED)
	@SD_PROGRAM=$(abspath $(OUT))/sd SD_LIBRARY=$(abspath $(OUT))/$(SHARED) \
	  $(PYTHON) -m unittest discover -s bindings/python/tests

# Needs gguf besides the oracle.
.PHONY: test-layouts
test-layouts: $(OUT)/sd
	$(PYTHON) tools/test_layouts.py --program ./sd

# Kernels on the shapes of SD 1.5, then the stages of a model: the one in weights/tiny, or  make bench MODEL=directory
.PHONY: bench
bench:
	@$(MAKE) --no-print-directory $(BUILD)/tools/bench >&2   # what is built is told there, lest it gets into BENCH=--json
	@OMP_WAIT_POLICY=passive $(BUILD)/tools/bench --threads $(THREADS) $(if $(MODEL),--model "$(MODEL)") \
	  $(if $(DEVICE),--device "$(DEVICE)") $(BENCH)
THREADS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
$(BUILD)/tools/bench: $(BUILD)/tools/bench.o $(BUILD)/tools/bench_compare.o $(OUT)/libsd.a
	$(call say,LINK)$(CC) $(FLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# Everything that lint looks at, built but not run.
.PHONY: objects
objects: all $(TESTS) $(EXAMPLE) $(FUZZERS) $(BUILD)/tools/bench

lint:
	@MAKE="$(MAKE)" sh tools/lint.sh

# docs/plans, which tests/test_plan.c compares with
plans: $(OUT)/sd
	@for c in sd15 sd21 sdxl sdxl-refiner; do $(OUT)/sd plan --config $$c > docs/plans/$$c.txt || exit 1; done

# share/floors, for sd compare --floor NAME; FLOORS="tiny sd15": only these. All take hours. Needs the oracle for models.
.PHONY: floors
floors: $(OUT)/sd
	$(PYTHON) tools/make_floors.py $(FLOORS) --sd $(OUT)/sd --workdir $(BUILD)/floors

# The manual page and the completions, which are installed as they stand here, for a cross build cannot run the program;
# tests/test_options.c compares.
man: $(OUT)/sd
	$(OUT)/sd help --man > share/sd.1
	$(OUT)/sd help --completion bash > share/sd.bash
	$(OUT)/sd help --completion zsh > share/_sd
	$(OUT)/sd help --completion fish > share/sd.fish

PROMPT ?= a red apple on a white background
demo: $(OUT)/sd
	OMP_WAIT_POLICY=passive $(OUT)/sd -p "$(PROMPT)" --seed 0 -o demo.png
	@echo "The picture is $(CURDIR)/demo.png"

pictures: $(OUT)/sd
	$(PYTHON) tools/pictures.py --program $(OUT)/sd

# ------------------------------------------------------------------------------------------- install
# from share/ to below PREFIX
SHARED_FILES := sd.1:share/man/man1/sd.1 sd.bash:share/bash-completion/completions/sd _sd:share/zsh/site-functions/_sd \
                sd.fish:share/fish/vendor_completions.d/sd.fish
DATA := $(shell cd weights 2>/dev/null && find tiny -type f ! -name '*.part' | sort)
install: all
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/lib/pkgconfig" "$(DESTDIR)$(PREFIX)/include" "$(DESTDIR)$(PREFIX)/share/sd"
	install -m 755 $(OUT)/sd "$(DESTDIR)$(PREFIX)/bin/sd"
	install -m 644 $(OUT)/libsd.a "$(DESTDIR)$(PREFIX)/lib/libsd.a"
	install -m 755 $(OUT)/$(SHARED) "$(DESTDIR)$(PREFIX)/lib/$(SHARED_INSTALLED)"
	ln -sf $(SHARED_INSTALLED) "$(DESTDIR)$(PREFIX)/lib/$(SHARED)"
	install -m 644 sd.h sd_tools.h "$(DESTDIR)$(PREFIX)/include"
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(LIBS)$(if $(filter 1,$(OPENMP)), -fopenmp)|' sd.pc.in \
	  > "$(DESTDIR)$(PREFIX)/lib/pkgconfig/sd.pc"
	install -m 644 LICENSE NOTICE weights/merges.txt "$(DESTDIR)$(PREFIX)/share/sd"
	install -d "$(DESTDIR)$(PREFIX)/share/sd/selftest"
	install -m 644 share/selftest/* "$(DESTDIR)$(PREFIX)/share/sd/selftest"
	install -d "$(DESTDIR)$(PREFIX)/share/sd/floors"
	install -m 644 share/floors/* "$(DESTDIR)$(PREFIX)/share/sd/floors"
	for f in $(SHARED_FILES); do \
	  to="$(DESTDIR)$(PREFIX)/$${f#*:}"; install -d "$${to%/*}" && install -m 644 "share/$${f%%:*}" "$$to" || exit 1; \
	done
	for f in $(DATA); do \
	  install -d "$(DESTDIR)$(PREFIX)/share/sd/$${f%/*}" && install -m 644 "weights/$$f" "$(DESTDIR)$(PREFIX)/share/sd/$$f" || exit 1; \
	done

uninstall:
	rm -f "$(DESTDIR)$(PREFIX)/bin/sd" "$(DESTDIR)$(PREFIX)/include/sd.h" "$(DESTDIR)$(PREFIX)/include/sd_tools.h" \
	  "$(DESTDIR)$(PREFIX)/lib/pkgconfig/sd.pc" \
	  "$(DESTDIR)$(PREFIX)/lib/libsd.a" "$(DESTDIR)$(PREFIX)/lib/$(SHARED)" "$(DESTDIR)$(PREFIX)/lib/$(SHARED_INSTALLED)"
	for f in $(SHARED_FILES); do rm -f "$(DESTDIR)$(PREFIX)/$${f#*:}"; done
	rm -rf "$(DESTDIR)$(PREFIX)/share/sd"

clean:
	rm -rf build sd libsd.a libsd.so libsd.dylib

help:
	@echo 'Targets'
	@echo '  all        sd, libsd.a and $(SHARED) (the default)'
	@echo '  deps       installs what building and testing need (Debian, Ubuntu), or names the packages (elsewhere)'
	@echo '  demo       draws demo.png with the model in weights/tiny;  make demo PROMPT="a blue car"'
	@echo '  man        writes the manual page and the completions in share/ again, after a change of options'
	@echo '  floors     Python: measures share/floors again, what float32 does to the tensors of published models'
	@echo '  pictures   Python: draws the pictures of the README again'
	@echo '  test       builds and runs every test and the example; the last line counts them;  JOBS=4: so many at a time'
	@echo '  test-full  Python: a model of full SD 1.5 size against diffusers in float32 and float64; FAMILY=sdxl: the networks'
	@echo '             of another family (sd plan --config names them)'
	@echo '  test-samplers  Python: every sampler through a tiny UNet, step by step, against diffusers and k-diffusion'
	@echo '  test-layouts  Python: models in every layout that people have draw the same picture as their directory'
	@echo '  test-faults  every system call and allocation of some runs fails once: no crash, leak or half file'
	@echo '  test-opencl  what an OpenCL device computes (here PoCL, or SD_DEVICE=opencl:NAME), and its kernels under Oclgrind'
	@echo '  test-emulated  kernels of AVX-512 and NEON on an x86 without them, by SIMDe (make deps-dev), against the specification'
	@echo '  asan       the tests under the address and undefined behaviour sanitizers'
	@echo '  fuzz       anything fed to every reader, a minute each: FUZZ="fuzz_image fuzz_config" FUZZ_SECONDS=1200; needs clang'
	@echo '  lint       floors, warnings under gcc and clang, exported symbols;  make deps-dev installs what it needs'
	@echo '  bench      speed of the operations and stages;  make bench BENCH=--json MODEL=directory THREADS=4'
	@echo '             make bench OPENCL=1 DEVICE=opencl: of a device'
	@echo '             make bench BENCH="--compare before.json after.json" says what became slower'
	@echo '  install    to $(PREFIX):  make install PREFIX=/usr DESTDIR=/tmp/package'
	@echo '  uninstall, clean, help'
	@echo 'Switches (each change rebuilds)'
	@echo '  BLAS=openblas|none  OPENMP=1|0  PNG=1|0  JPEG=1|0  UTF8PROC=1|0  ZLIB=1|0  OPENCL=0|1  SIMDE=0|1  ISA=scalar'
	@echo '  CC=gcc|clang  CFLAGS=-O3  LDFLAGS=  PREFIX=/usr/local  DESTDIR=  V=1 (show commands)'
endif

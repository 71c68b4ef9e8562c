# The GPU plugin. Included by the Makefile after B, CPPFLAGS and FLAGS are set:  include src/backend/cuda/cuda.mk
#   make cuda          libgalen-cuda.so
#   make gpu-tests     the test and benchmark binaries, which need libc and the driver only
# GALEN_CUDA_ARCHS narrows the build: GALEN_CUDA_ARCHS=90 takes two minutes of a core, all seven several times that.
NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
# The cards that are here; on a machine without one, all that are known.
CUDA_ALL_ARCHS := 75 80 86 89 90 100 120
ifeq ($(GALEN_CUDA_ARCHS),all)
override GALEN_CUDA_ARCHS := $(CUDA_ALL_ARCHS)
endif
ifndef GALEN_CUDA_ARCHS
CUDA_HERE := $(if $(NVCC),$(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | grep -xE '7[5-9]|[89][0-9]|1[0-9][0-9]' | sort -nu))
GALEN_CUDA_ARCHS := $(or $(strip $(CUDA_HERE)),$(CUDA_ALL_ARCHS))
endif
CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(NVCC))
CUDA_DIR := src/backend/cuda
CUDA_LAST := $(lastword $(GALEN_CUDA_ARCHS))

# Machine code for each, and PTX of the last, for cards that come later.
CUDA_CODE := $(foreach a,$(GALEN_CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
             -gencode arch=compute_$(CUDA_LAST),code=compute_$(CUDA_LAST)
CUDA_FLAGS := -std=c++17 -O3 -Xfatbin=-compress-all -Iinclude -Isrc -Xcompiler -fPIC,-fvisibility=hidden,-Wall $(CUDA_CODE)
CUDA_CU_OBJ := $(patsubst %.cu,$(B)/%.cu.o,$(wildcard $(CUDA_DIR)/*.cu))
CUDA_C_OBJ := $(patsubst %.c,$(B)/%.o,$(wildcard $(CUDA_DIR)/*.c))
# What the plugin uses of the core, built into it: it binds to nothing of the program that loads it.
# Hashes and embedded files need other libraries and stay out.
PLUGIN_CORE_SRC := $(filter-out src/base/sha256.c src/base/embed.c,$(wildcard src/base/*.c)) $(wildcard src/tensor/*.c)
CUDA_CORE_OBJ := $(patsubst %.c,$(B)/%.o,$(PLUGIN_CORE_SRC))
# cudart is linked statically; cuBLASLt is looked for when a work is opened.
CUDA_LIBS := -L$(CUDA_HOME)/lib64 -lcudart_static -lstdc++ -lm -ldl -lrt -lpthread

comma := ,
.PHONY: cuda gpu-tests need-nvcc
cuda: $(B)/libgalen-cuda.so
need-nvcc:
	@test -n '$(NVCC)' || { echo 'galen: nvcc not found; install the CUDA toolkit (Debian: nvidia-cuda-toolkit) or name it: make cuda NVCC=path' >&2; exit 2; }

$(B)/$(CUDA_DIR)/%.o: CPPFLAGS += -isystem $(CUDA_HOME)/include
$(B)/$(CUDA_DIR)/entry.o: CPPFLAGS += -DGALEN_CUDA_ARCHS='"$(GALEN_CUDA_ARCHS)"'
$(B)/$(CUDA_DIR)/entry.o: $(B)/.cuda-flags
$(B)/%.cu.o: %.cu $(B)/.cuda-flags | need-nvcc
	@mkdir -p $(@D)
	$(call say,NVCC,$<)
	$(Q)$(NVCC) $(CUDA_FLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<
ifeq ($(filter clean help,$(MAKECMDGOALS)),)
$(call keep,$(B)/.cuda-flags,$(NVCC) $(CUDA_FLAGS))
endif

# Only the entry point is visible.
$(B)/libgalen-cuda.so: $(CUDA_CU_OBJ) $(CUDA_C_OBJ) $(CUDA_CORE_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) -shared -Wl,-soname,libgalen-cuda.so -Wl,--exclude-libs,ALL -Wl,-Bsymbolic -Wl,-z,defs -o $@ $^ $(CUDA_LIBS)

# The cpu backend and the model reader come along, so that one binary compares everything with the reference.
GPU_CORE_OBJ := $(CUDA_CORE_OBJ) $(patsubst %.c,$(B)/%.o,$(filter-out $(SKIP_$(ARCH)) src/model/synth%.c,$(wildcard src/gguf/*.c \
                src/model/*.c src/backend/*.c src/runtime/sampler.c src/backend/cpu/*.c src/backend/cpu/ref/*.c)))
GPU_BINARIES := $(B)/tests/gpu/gpu_test $(B)/bench/gpu/gpu_bench
gpu-tests: $(GPU_BINARIES)
$(B)/tests/gpu/%.o $(B)/bench/gpu/%.o: CPPFLAGS += -isystem $(CUDA_HOME)/include -Itests/kernels -Itests/gpu
# cudaMalloc and the pinned allocator are wrapped so that a test can make the k-th fail.
$(B)/tests/gpu/gpu_test: $(patsubst %.c,$(B)/%.o,$(wildcard tests/gpu/*.c))
$(B)/bench/gpu/gpu_bench: $(patsubst %.c,$(B)/%.o,$(wildcard bench/gpu/*.c))
$(GPU_BINARIES): $(CUDA_CU_OBJ) $(CUDA_C_OBJ) $(GPU_CORE_OBJ)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(if $(findstring gpu_test,$@),-Wl$(comma)--wrap=cudaMalloc$(comma)--wrap=cudaHostAlloc$(comma)--wrap=cudaHostRegister) -o $@ $^ $(CUDA_LIBS)

-include $(CUDA_CU_OBJ:.o=.d)

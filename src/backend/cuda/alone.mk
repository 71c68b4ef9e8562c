# The plugin, its tests and its benchmark on a machine that has make, gcc and nvcc and nothing else:
#   make -f src/backend/cuda/alone.mk B=build/gpu GALEN_CUDA_ARCHS=90 gpu-tests
B ?= build/gpu
CC := gcc
ARCH := $(shell $(CC) -dumpmachine | cut -d- -f1)
SKIP_x86_64 := %_neon.c
SKIP_aarch64 := %_avx2.c %_avxvnni.c %_avx512.c
CPPFLAGS += -D_GNU_SOURCE -DGALEN_BUILD -Iinclude -Isrc
FLAGS := -std=c11 -O2 -g -Wall -Wextra -fvisibility=hidden -ffp-contract=off -fno-math-errno -fPIC -pthread
say = @printf '  %-5s %s\n' '$(1)' '$(2)'
Q := @
keep = $(shell mkdir -p $(dir $(1)) && { printf '%s\n' '$(2)' | cmp -s - $(1) || printf '%s\n' '$(2)' > $(1); })
.PHONY: FORCE
.DELETE_ON_ERROR:
default: gpu-tests cuda

$(B)/%_avx2.o: ISA_FLAGS = -mavx2 -mfma -mf16c
$(B)/%_avxvnni.o: ISA_FLAGS = -mavx2 -mfma -mf16c -mavxvnni
$(B)/%_avx512.o: ISA_FLAGS = -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
$(B)/%_neon.o: ISA_FLAGS = -march=armv8.2-a+dotprod+fp16
$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(FLAGS) $(ISA_FLAGS) -MMD -MP -c -o $@ $<

include src/backend/cuda/cuda.mk
-include $(shell find $(B) -name "*.d" 2>/dev/null)

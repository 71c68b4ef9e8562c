# Galen. `make` builds build/galen; `make demo` runs a first differential; `make test` runs every test.
# B is the build folder, so several builds can stand side by side: make B=build/asan SAN=address,undefined
B ?= build
CC ?= gcc
OPT ?= -O2
SAN ?=
WERROR ?=
VERSION := 0.1.0

CPPFLAGS += -D_GNU_SOURCE -DGALEN_BUILD -Iinclude -Isrc
CFLAGS += -std=c11 $(OPT) -g -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
          -fvisibility=hidden -ffp-contract=off -fno-math-errno -fPIC -pthread $(WERROR)
LDLIBS += -lpcre2-8 -lm -pthread
ifneq ($(SAN),)
CFLAGS += -fsanitize=$(SAN) -fno-omit-frame-pointer
LDFLAGS += -fsanitize=$(SAN)
endif

ARCH := $(shell $(CC) -dumpmachine | cut -d- -f1)
# Files of the other processor's instruction sets are left out.
SKIP_x86_64 := %_neon.c
SKIP_aarch64 := %_avx2.c %_avx512.c
LIB_SRC := $(filter-out $(SKIP_$(ARCH)),$(wildcard $(addprefix src/,$(addsuffix /*.c,\
    base tensor gguf tokenizer grammar backend backend/cpu backend/cpu/ref model plan runtime assist))))
CLI_SRC := $(wildcard src/cli/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)

.PHONY: all lib clean
all: $(B)/galen
lib: $(B)/libgalen.a

$(B)/libgalen.a: $(LIB_OBJ)
	rm -f $@ && $(AR) rcs $@ $^
$(B)/galen: $(CLI_OBJ) $(B)/libgalen.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -ljansson

# One instruction set per file; the file's name says which.
$(B)/%_avx2.o: ISA_FLAGS = -mavx2 -mfma -mf16c
$(B)/%_avx512.o: ISA_FLAGS = -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
$(B)/%_neon.o: ISA_FLAGS = -march=armv8.2-a+dotprod+fp16
$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(ISA_FLAGS) -MMD -MP -c -o $@ $<

# A unit test links the modules it names (all of the library unless told).
$(B)/tests/%: $(B)/tests/%.o $(B)/libgalen.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka -ljansson

clean:
	rm -rf $(B)

-include $(shell find $(B) -name '*.d' 2>/dev/null)

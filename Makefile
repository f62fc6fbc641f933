# meterhub: one line each in the README.
PY := .venv/bin/python
SECONDS ?=
# cosmic-ray brings thirty packages that nothing else here wants: they have a place of their own.
MUTANTS := .cache/mutants
TARGET := .cache/target
TESTS ?=
# What a developer's shell says of its own Python is not for this one.
unexport PYTHONPATH PYTHONHOME
# These start whole hubs with all that is around them and mostly wait: two at a time, a file in one process. All others wait
# for two fifths of their time: three at a time.
WHOLE_HUBS := tests/acceptance tests/brokers tests/soak tests/deploy tests/transcripts

.PHONY: fleet-test relock archive run test check setup-check test-target bench fuzz mutants soak powercut station-test lock clean setup setup-headend setup-fleet setup-test image image-test image-twice golden docs headend brokers fleet chaos radio-long

setup:            ## .venv with the locked packages
	@deploy/setup.sh run

setup-check:      ## that, and RAUC
	@deploy/setup.sh check

setup-test:       ## that, and what the tests run against (mosquitto, node)
	@deploy/setup.sh test

run: setup        ## a hub with an emulated home and a broker, live; SECONDS=60 ends by itself
	@$(PY) -m deploy.demo --end-with-parent $(if $(SECONDS),--seconds $(SECONDS))

check: setup-check ## ruff, mypy --strict, the floors and the unit tests: under a minute
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest tests/hub tests/docs tests/test_floors.py tests/drivers/zigbee/test_machines.py -m "not slow"

test: setup-test  ## everything but the long forms: each part whatever the one before says, and one exit status for all; WITHOUT=FOLDERS
	@status=0; try() { echo "$$*"; "$$@" || status=1; }; \
	try $(PY) -m ruff check .; \
	try $(PY) -m ruff format --check .; \
	try $(PY) -m mypy; \
	try $(PY) -m pytest -m "not slow" -n 3 --dist worksteal $(addprefix --ignore=,$(WHOLE_HUBS) $(WITHOUT)); \
	try $(PY) -m pytest -m "not slow" -n 2 --dist loadfile $(WHOLE_HUBS); \
	exit $$status

test-target: setup-test ## the suite with the versions that an armhf board has (Debian's Python, cbor2 in Python); TESTS=tests/store
	@deploy/target.sh $(TARGET)
	$(TARGET)/bin/python -m pytest -m "not slow" -n 3 --dist worksteal $(TESTS)

# What the long form of has a target of its own, and often needs more to be installed.
WITH_TARGETS := tests/image tests/brokers tests/powercut tests/deploy tests/drivers/zigbee/test_many.py

soak: setup-test  ## the long forms: half an hour of everything at once (SOAK_SECONDS, SOAK_SEED), 200 kills of the hub
	$(PY) -m pytest -m slow -s $(addprefix --ignore=,$(WITH_TARGETS))

fleet-test: setup-fleet  ## the long forms of the control point and the station: its console in Chromium, fleets, 1,000 devices
	$(PY) -m pytest -m slow -s tests/deploy

radio-long: setup-test ## 200 appliances: a simulated week (WEEK_DAYS), and ten minutes at 115,200 baud (LINE_SECONDS), with figures
	$(PY) -m pytest tests/drivers/zigbee/test_many.py -m slow -s

station-test: setup-test  ## the provisioning station's long form: 1,000 devices in one run
	$(PY) -m pytest tests/deploy/test_station.py -m slow -s

powercut: setup-test  ## 10,000 images of what a power cut leaves, and a hundred cuts of a mounted disk; IMAGES=500 SEED=2
	$(PY) -m tests.powercut --images $(or $(IMAGES),10000) --seed $(or $(SEED),1)
	$(PY) -m pytest -m "slow or not slow" -s tests/powercut/test_mounted.py

bench: setup      ## the figures the README quotes
	$(PY) -m tests.bench

fuzz: setup       ## any bytes at every door (tests/fuzz/doors.py); FUZZ_SECONDS=3600 for the long form
	$(PY) -m tests.fuzz --seconds $(or $(FUZZ_SECONDS),60)

brokers: setup-test ## a hub's life on each of other people's brokers: mosquitto, nats (one and three), RabbitMQ, ActiveMQ, aedes, amqtt
	@deploy/setup.sh brokers
	$(PY) -m pytest -m "slow or not slow" -v tests/brokers

setup-headend:    ## that of setup, and what the console stands on (from npm, by version and checksum)
	@deploy/setup.sh headend

headend: setup-headend ## the control point as a service, its console, a pilot's hubs; HUBS=20 ONCE=1
	@$(PY) -m deploy.headend.pilot $(if $(HUBS),--hubs $(HUBS)) $(if $(PORT),--port $(PORT)) $(if $(ONCE),--once)

setup-fleet:      ## that of setup, and what `make fleet` starts (PostgreSQL, haproxy, VictoriaMetrics, Prometheus), and a browser for the console's tests
	@deploy/setup.sh fleet

fleet: setup-fleet ## the control point over three brokers with its engines, a fleet, and a broker that dies; HUBS=30 ONCE=1 ENGINE=nats
	@$(PY) -m deploy.headend.fleet$(if $(ENGINE),_$(ENGINE)) $(if $(HUBS),--hubs $(HUBS)) $(if $(PORT),--port $(PORT)) $(if $(ONCE),--once)

chaos: setup-fleet ## the fleet of `make fleet`, whose parts are killed at random; then the book is held against the hubs; SECONDS=600 HUBS=60 SEED=1
	@$(PY) -m deploy.headend.chaos --seconds $(or $(SECONDS),600) $(if $(HUBS),--hubs $(HUBS)) $(if $(SEED),--seed $(SEED))

mutants: setup    ## a score a room: which small changes of the code its tests notice; EACH=30 SEED=1 ROOM=core/gateway
	@test -x $(MUTANTS)/bin/python || { python3 -m venv $(MUTANTS) && $(MUTANTS)/bin/pip -q install cosmic-ray==8.7.0; }
	$(PY) -m tests.mutants $(MUTANTS)/bin/python --each $(or $(EACH),30) --seed $(or $(SEED),1) $(if $(ROOM),--room $(ROOM))

image: setup      ## what is flashed: BOARD=qemu-virt-armhf VERSION=1.0.0 (deploy/README.md)
	$(PY) deploy/build.py --board $(or $(BOARD),qemu-virt-armhf) $(if $(VERSION),--version $(VERSION))

image-test: setup-test ## a board's life in QEMU, from the factory to a bad update (three quarters of an hour); BOARD=qemu-virt-arm64
	@deploy/setup.sh image
	IMAGE_TEST_BOARD=$(or $(BOARD),qemu-virt-armhf) $(PY) -m pytest -m slow -s -v tests/image

image-twice: setup ## build twice; every file but the update must be the same
	$(PY) -m deploy.image.twice --board $(or $(BOARD),qemu-virt-armhf)

golden: setup-test ## the command line's transcripts (tests/transcripts) written anew; look at the difference before it goes in
	METERHUB_GOLDEN=write $(PY) -m pytest -m "slow or not slow" tests/transcripts

docs: setup       ## the reference pages (docs/reference) and deploy/asyncapi.yaml, written anew from the code
	$(PY) -m deploy.reference
	$(PY) -m deploy.asyncapi
	$(PY) -m deploy.shell_pages
	$(PY) -m tests.emulators.page

relock: setup     ## Debian's packages of every board resolved anew, once a month: what changed, and which are fixes; WITHOUT=SUITE
	@for board in qemu-virt-armhf qemu-virt-arm64; do \
		$(PY) deploy/build.py --board $$board --lock $(if $(WITHOUT),--without $(WITHOUT)) || exit 1; done

archive: setup    ## what a board's image is built from, kept for the years when no mirror has it: BOARD, OUT (build/archive)
	$(PY) -m deploy.image.archive $(or $(BOARD),qemu-virt-armhf) $(or $(OUT),build/archive)

lock:             ## resolve the locked packages anew
	$(PY) -m pip -q install uv
	$(PY) -m uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url -q -o requirements.lock
	$(PY) -m uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url -q -o requirements-dev.lock
	$(PY) -m uv pip compile deploy/headend/console/npm.in --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-annotate -q -o deploy/headend/console/npm.lock
	cd deploy/headend/console && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund

clean:
	rm -rf .venv .cache .run build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

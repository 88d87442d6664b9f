# The two commands of the README are `make demo` and `make test`; `make help` lists the rest.

CARGO ?= cargo
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=

.PHONY: help demo test lint bench bench-peers sim http ui kill powercut full links flood waiting hostile fuzz tmpfiles install

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

demo: ## Open the dashboard over tasks on 48 stand-in hosts; without a terminal, tell the story in text
	$(CARGO) run --quiet --example demo

test: ## Install what the tests need and run all of them
	.ci/install
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --no-fail-fast; else $(CARGO) test --no-fail-fast; fi
	$(CARGO) test --quiet --doc

lint: ## Check format, lints, docs and shell scripts
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps --document-private-items
	shellcheck templates/*.sh hooks/spoolgate-git-hook src/domain/runner/runner.sh src/domain/file_step/*.sh .ci/run .ci/install .ci/install-peers .ci/screens .ci/fuzz

bench: ## Measure; prints figures and ratios, judges nothing; LINK=lan or wan for the parts over SSH
	.ci/install
	$(CARGO) bench --bench spool
	$(CARGO) bench --bench dashboard
	$(CARGO) bench --bench http
	$(CARGO) bench --bench plan
	$(CARGO) bench --bench ssh

bench-peers: ## Measure beside OpenSSH, pssh, asyncssh, pyinfra, Ansible and others: HOSTS=500 FIVE=100 ROUNDS=3 TOOLS=ssh-xargs,... LINK=wan TRIPS=9
	.ci/install-peers
	$(CARGO) bench --bench peers

sim: ## A long campaign of the engine's simulator: seeds SIM_FROM=0 up to SIM_SEEDS=1000000
	SIM_SEEDS=$${SIM_SEEDS:-1000000} $(CARGO) test --release --lib simulator -- --nocapture

http: ## A long campaign against HTTP: schemathesis for ten minutes, slowhttptest in three modes
	.ci/install
	$(CARGO) build
	.ci/http

ui: ## A long campaign of the dashboard: any key at any time, any name, 200 sessions in a terminal
	EVENTS=$${EVENTS:-1000000} WIDTHS=$${WIDTHS:-100000} $(CARGO) test --release --lib dashboard -- --nocapture
	SESSIONS=$${SESSIONS:-200} $(CARGO) test --test it the_terminal_is_left -- --nocapture

kill: ## A long campaign of killing the daemon under a mixed load: KILLS=2000, from KILL_SEED=1 on
	KILLS=$${KILLS:-2000} $(CARGO) test --test it killing_the_daemon_at -- --nocapture

powercut: ## A long campaign of power cuts under a mixed load, on an ext4 of its own: CUTS=300, from CUT_SEED=1 on
	CUTS=$${CUTS:-300} $(CARGO) test --test it cutting_the_power -- --nocapture

full: ## A long campaign of full disks: FULLS=86
	FULLS=$${FULLS:-86} $(CARGO) test --test it a_disk_that_fills -- --nocapture

links: ## A long campaign of links like real ones: silent, slow, in small pieces, cut at every byte; login files that read the input
	.ci/install
	LINKS_HOSTS=$${LINKS_HOSTS:-12} LINKS_SECONDS=$${LINKS_SECONDS:-60} LINKS_LONGEST=$${LINKS_LONGEST:-120} LINKS_COUNT=$${LINKS_COUNT:-3} \
		$(CARGO) test --test it links_that_are_silent -- --nocapture
	ulimit -n "$$(ulimit -Hn)" && CUT_STEP=$${CUT_STEP:-1} $(CARGO) test --test it a_link_cut_at_any_byte -- --nocapture
	FREIGHT_FILE=$${FREIGHT_FILE:-256000000} FREIGHT_OUTPUT=$${FREIGHT_OUTPUT:-256000000} FREIGHT_AT_ONCE=$${FREIGHT_AT_ONCE:-1} \
		$(CARGO) test --release --test it every_byte_arrives -- --nocapture
	FREIGHT_CANCELS=$${FREIGHT_CANCELS:-200} FREIGHT_TERMS=$${FREIGHT_TERMS:-50} FREIGHT_END_S=$${FREIGHT_END_S:-5} \
		$(CARGO) test --release --test it at_any_moment_of_a_transfer -- --nocapture --test-threads 1
	LOGIN_LINES=$${LOGIN_LINES:-12} LOGIN_BYTES=$${LOGIN_BYTES:-10} \
		$(CARGO) test --release --test it login_files_that_read -- --nocapture

flood: ## A long campaign of output: 20 hosts print a gibibyte each, as one line and as ten million
	.ci/install
	FLOOD_HOSTS=$${FLOOD_HOSTS:-20} FLOOD_MIB=$${FLOOD_MIB:-1024} FLOOD_FIRST_MS=$${FLOOD_FIRST_MS:-250} \
		$(CARGO) test --release --test it a_flood_is_kept -- --nocapture

waiting: ## Thousands of waiting tasks: memory, and how soon the daemon answers after a start and a change: WAITING=25000
	WAITING=$${WAITING:-25000} $(CARGO) test --release --test it thousands_of_waiting_tasks -- --nocapture

hostile: ## People who try to act as one another, a flood of hostile files, hostile SSH servers: HOSTILE_ATTEMPTS=128 HOSTILE_FILES=10000 HOSTILE_HOSTS=100 HOSTILE_SEED=1
	HOSTILE_ATTEMPTS=$${HOSTILE_ATTEMPTS:-128} HOSTILE_FILES=$${HOSTILE_FILES:-10000} HOSTILE_HOSTS=$${HOSTILE_HOSTS:-100} HOSTILE_DIRECTORIES=$${HOSTILE_DIRECTORIES:-2000} \
		$(CARGO) test --test it hostile:: -- --nocapture --test-threads 1

fuzz: ## Feed every reader of bytes from outside with random ones, ten minutes each: FUZZ_SECONDS=600 FUZZ_TARGETS="order journal"
	.ci/fuzz

# The service may not give directories to a group or set their group bit, so systemd makes them before.
tmpfiles: ## Print the rules by which systemd-tmpfiles makes the state of the service, from the table in spool/README.md
	@awk -F '|' '/^\| `/ { gsub(/[` ]/, "", $$2); gsub(/ /, "", $$4); path = $$2 == "." ? "" : "/" $$2; \
		print "d /var/lib/spoolgate" path " " $$4 " spoolgate spoolgate-submit -" }' spool/README.md

install: ## Install the binary, the templates and an example configuration
	$(CARGO) build --release
	install -D -m 0755 target/release/spoolgate $(DESTDIR)$(PREFIX)/bin/spoolgate
	install -d -m 0755 $(DESTDIR)$(SYSCONFDIR)/spoolgate/templates $(DESTDIR)$(SYSCONFDIR)/spoolgate/inventory
	install -d -m 0755 $(DESTDIR)$(PREFIX)/share/spoolgate/templates
	install -m 0644 templates/* $(DESTDIR)$(PREFIX)/share/spoolgate/templates/
	# What somebody changed stays as it is: another template would make every waiting task stale.
	for file in templates/*; do to=$(DESTDIR)$(SYSCONFDIR)/spoolgate/$$file; \
		[ -e "$$to" ] || install -m 0644 "$$file" "$$to"; done
	install -d -m 0755 $(DESTDIR)$(PREFIX)/share/doc/spoolgate/docs
	install -m 0644 README.md CHANGELOG.md $(DESTDIR)$(PREFIX)/share/doc/spoolgate/
	install -m 0644 docs/*.md docs/*.toml $(DESTDIR)$(PREFIX)/share/doc/spoolgate/docs/
	install -D -m 0644 docs/example-spoolgate.toml $(DESTDIR)$(PREFIX)/share/doc/spoolgate/spoolgate.toml
	install -d -m 0755 $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(SYSCONFDIR)/spoolgate/timers
	for unit in systemd/*.service systemd/*.timer; do \
		sed 's|/usr/bin/spoolgate|$(PREFIX)/bin/spoolgate|; s|/usr/share/doc|$(PREFIX)/share/doc|' $$unit >$(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/}; done
	install -D -m 0644 systemd/spoolgate.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/spoolgate.conf
	install -d -m 0755 $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
	$(MAKE) --silent tmpfiles >$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/spoolgate.conf
	install -D -m 0755 hooks/spoolgate-git-hook $(DESTDIR)$(PREFIX)/share/spoolgate/hooks/spoolgate-git-hook
	install -D -m 0644 docs/example-hooks.toml $(DESTDIR)$(PREFIX)/share/doc/spoolgate/hooks.toml
	install -D -m 0644 docs/example-policy.toml $(DESTDIR)$(PREFIX)/share/doc/spoolgate/policy.toml

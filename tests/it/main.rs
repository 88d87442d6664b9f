//! The one integration test binary.
#![expect(clippy::unwrap_used, reason = "a test that meets a surprise fails")]
#![expect(clippy::print_stderr, reason = "seeds and the daemon's last words are printed")]

mod accounts;
mod ansible_cases;
mod ansible_inventory;
mod ansible_random;
mod approval;
mod audit;
mod batches;
mod cli;
mod clock;
mod dashboard;
mod downtime;
mod engines;
#[expect(dead_code, reason = "the demo uses the rest of the server")]
mod fake_ssh;
mod files;
mod fleet;
mod floods;
mod flows;
mod freezes;
mod git;
mod half_written;
mod hostile;
mod http;
mod http_rights;
mod inventory;
mod link;
mod links;
mod loader;
mod login_files;
mod main_job;
mod orders;
mod parameters;
mod proof;
mod relay;
mod relay_shapes;
mod remote;
mod repository;
mod runner;
mod runner_files;
mod runner_limits;
mod secret_runs;
mod seed_scripts;
mod sizes;
mod ssh;
mod ssh_config;
mod ssh_failures;
mod ssh_ways;
mod sshd;
mod systemd;
mod templates;
mod terminal;
mod tidy;
mod waiting;
mod world;

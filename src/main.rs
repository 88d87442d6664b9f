//! The spoolgate binary.

fn main() -> std::process::ExitCode {
    spoolgate::shells::cli::main()
}

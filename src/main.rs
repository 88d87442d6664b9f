//! The spoolgate binary.

fn main() -> std::process::ExitCode {
    spoolgate::shells::entry::main()
}

//! The fabriq program: parses the command line and hands over to one module per subcommand.
fn main() {}

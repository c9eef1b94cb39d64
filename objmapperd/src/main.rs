//! The daemon's program: reads its settings, runs, and says why it ended.

use std::io::{self, Write};
use std::process::ExitCode;

use objmapperd::allowance;
use objmapperd::cli::{self, Order, Stop};
use objmapperd::config::Loaded;
use objmapperd::logging;

use objmapper_os as os;

/// It ran, or tried to, and failed.
const FAILURE: u8 = 1;
/// It was told something that makes no sense; trying again will not help.
const MISTAKE: u8 = 2;

fn main() -> ExitCode {
    match cli::read(std::env::args_os()) {
        Ok(Order::Serve(loaded)) => serve(*loaded),
        Ok(Order::CheckConfig(loaded)) => check(&loaded),
        Ok(Order::Manual(page)) => print(&page, "the manual page"),
        Err(Stop::Flags(error)) => {
            // Help and version are such errors too, with status 0 and on standard output.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(MISTAKE) } else { ExitCode::SUCCESS }
        }
        Err(Stop::Settings(problems)) => {
            logging::complain(&format!("objmapperd: {problems}"));
            ExitCode::from(MISTAKE)
        }
    }
}

fn serve(loaded: Loaded) -> ExitCode {
    let Loaded { settings, warnings, .. } = loaded;
    let outcome = logging::start(&settings.log).and_then(|()| {
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        objmapperd::run(&settings, cli::read_again)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes = error.chain().map(os::error::text).collect::<Vec<_>>();
            logging::complain(&format!("objmapperd: {}", causes.join("\n  because: ")));
            ExitCode::from(FAILURE)
        }
    }
}

fn check(loaded: &Loaded) -> ExitCode {
    for warning in &loaded.warnings {
        logging::complain(&format!("objmapperd: {warning}"));
    }
    let text = loaded.effective.clone() + &allowance::remarks(&loaded.settings);
    print(text.as_bytes(), "the settings")
}

fn print(text: &[u8], what: &str) -> ExitCode {
    match io::stdout().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let why = os::error::text(&error);
            logging::complain(&format!("objmapperd: {what} could not be written: {why}"));
            ExitCode::from(FAILURE)
        }
    }
}

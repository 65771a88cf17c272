//! The command line: wires the rooms together and knows nothing of their insides.

mod daemon;
mod log;
mod ping;

use cenote::config::{Config, ConfigHandle};
use cenote::source::Sources;
use cenote::state::{SourcesHandle, State};
use cenote::supervise::{PidFile, is_notified, notify_ready};
use clap::{Arg, Command};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[global_allocator]
static ALLOCATOR: cenote::alloc::Counting = cenote::alloc::Counting;

/// Exit code of a wrong command line, as clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    // A short option counts in the first place only: further on it may be a value, as in `--requirepass -v`.
    let first = args.first().and_then(|arg| arg.to_str()).unwrap_or_default();
    let asks_for_help = ["check", "ping", "setup", "help", "-h", "-v", "-V"].contains(&first)
        || args.iter().any(|arg| arg == "--help" || arg == "--version");
    if asks_for_help {
        return subcommand();
    }
    match Config::load(&args) {
        Ok(loaded) if goes_to_background(&loaded.config) => into_background(&args),
        Ok(loaded) => run(loaded),
        Err(faults) => {
            for fault in &faults {
                eprintln!("cenote: {fault}");
            }
            eprintln!("cenote: nothing was started; `cenote --help` shows the usage");
            ExitCode::from(USAGE)
        }
    }
}

/// `--help`, `--version`, `check` and `ping`: what clap parses. Directives are the business of `config`.
fn subcommand() -> ExitCode {
    let check = Command::new("check")
        .about("Validate a routes file: parse it, connect, prepare every query")
        .arg(Arg::new("FILE").required(true).help("The routes file (TOML)"))
        .arg(Arg::new("url").long("url").value_name("URL").help("Connect here instead of to the file's sources"));
    let setup = Command::new("setup")
        .about("Print the SQL that a routes file's databases need to tell their changes")
        .arg(Arg::new("FILE").required(true).help("The routes file (TOML)"))
        .arg(Arg::new("url").long("url").value_name("URL").help("Connect here, as somebody who may run the SQL"))
        .arg(Arg::new("apply").long("apply").action(clap::ArgAction::SetTrue).help("Run the SQL as well"));
    let port = Arg::new("port").short('p').long("port").default_value("6379");
    let seconds = Arg::new("timeout").short('t').long("timeout").value_name("SECONDS").default_value("3");
    let ping = Command::new("ping")
        .about("Ask a running server whether it answers; the exit code tells")
        .arg(Arg::new("host").long("host").default_value("127.0.0.1").help("Its host"))
        .arg(port.value_parser(clap::value_parser!(u16)).help("Its port"))
        .arg(Arg::new("socket").short('s').long("socket").value_name("PATH").help("Its Unix socket, instead"))
        .arg(seconds.value_parser(clap::value_parser!(u16).range(1..)).help("How long to wait for the answer"));
    let matches = Command::new("cenote")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Redis-protocol-compatible caching server that fills itself from Postgres")
        .override_usage(
            "cenote [redis.conf] [--directive value ...] [--routes FILE]\n       cenote check FILE [--url URL]\n       \
             cenote setup FILE [--url URL] [--apply]\n       cenote ping [--port PORT]",
        )
        .after_help(
            "Every directive of redis.conf is also an option: --port 6380, --maxmemory 1gb. Options win over the file.\n\
             `-` reads directives from standard input. --routes names the file of sources and routes,\n\
             --metrics-port serves Prometheus text, --workers sets the threads (0: one a core).",
        )
        .disable_version_flag(true)
        .arg(Arg::new("version").short('v').short_alias('V').long("version").help("Print version")
            .action(clap::ArgAction::Version))
        .arg(Arg::new("directives").num_args(0..).hide(true).trailing_var_arg(true).allow_hyphen_values(true))
        .subcommands([check, setup, ping])
        .get_matches();
    match matches.subcommand() {
        Some(("check", check)) => {
            let file = check.get_one::<String>("FILE").map(String::as_str).unwrap_or_default();
            let url = check.get_one::<String>("url").map(String::as_str);
            cenote::source::run_check(file.as_ref(), url, &mut std::io::stdout().lock())
        }
        Some(("setup", setup)) => {
            let file = setup.get_one::<String>("FILE").map(String::as_str).unwrap_or_default();
            let url = setup.get_one::<String>("url").map(String::as_str);
            cenote::source::run_setup(file.as_ref(), url, setup.get_flag("apply"), &mut std::io::stdout().lock())
        }
        Some(("ping", ping)) => {
            let text = |name| ping.get_one::<String>(name).map(String::as_str);
            let number = |name| ping.get_one::<u16>(name).copied().unwrap_or_default();
            let tcp = || ping::Target::Tcp(text("host").unwrap_or_default(), number("port"));
            ping::run(
                text("socket").map_or_else(tcp, ping::Target::Unix),
                Duration::from_secs(number("timeout").into()),
            )
        }
        _ => ExitCode::SUCCESS,
    }
}

/// `daemonize`, unless systemd waits for word from this very process.
fn goes_to_background(config: &Config) -> bool {
    config.daemonize && !daemon::is_detached() && !is_notified(config.value("supervised").unwrap_or("no"))
}

fn into_background(args: &[OsString]) -> ExitCode {
    if args.iter().any(|arg| arg == "-") {
        eprintln!("cenote: directives from standard input and `daemonize yes` do not go together");
        return ExitCode::from(USAGE);
    }
    daemon::detach(args)
}

fn run(loaded: cenote::config::Loaded) -> ExitCode {
    let config = &loaded.config;
    let is_detached = config.daemonize && daemon::is_detached();
    if is_detached && let Err(error) = daemon::leave_session() {
        eprintln!("cenote: the session cannot be left: {error}");
        return ExitCode::FAILURE;
    }
    // A path on the command line starts where the command was given, those of redis.conf at `dir`.
    let routes = std::path::absolute(&config.routes).unwrap_or_default();
    if let Err(error) = std::env::set_current_dir(config.value("dir").unwrap_or(".")) {
        eprintln!("cenote: the folder of `dir` cannot be entered: {error}");
        return ExitCode::FAILURE;
    }
    let log_follows = match log::start(config, is_detached) {
        Ok(log_follows) => log_follows,
        Err(error) => {
            eprintln!("cenote: the log file '{}' cannot be opened: {error}", config.log.file);
            return ExitCode::FAILURE;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if config.value("disable-thp") == Some("yes")
        && let Err(error) = cenote::process::disable_huge_pages()
    {
        tracing::warn!("transparent huge pages cannot be disabled for this process: {error}");
    }
    let sources = match open_sources(if config.routes.is_empty() { None } else { Some(&routes) }) {
        Ok(sources) => sources,
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("cenote: {fault}"));
            return ExitCode::from(USAGE);
        }
    };
    place_threads(config);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if config.workers == 0 { cores } else { config.workers as usize };
    announce(config, &sources, workers);
    let file = (!loaded.config.routes.is_empty()).then_some(routes);
    let handle = SourcesHandle::new(sources, file);
    let now = cenote::clock::now_ms();
    let renames = loaded.config.lines().iter().filter(|line| line.name == "rename-command");
    let renames = renames.filter_map(|line| Some((line.words.first()?.as_str(), line.words.get(1)?.as_str())));
    if let Err(fault) = cenote::commands::rename_commands(renames) {
        eprintln!("cenote: {fault}");
        return ExitCode::from(USAGE);
    }
    let rows = cenote::commands::registry().rows();
    let state = Arc::new(State::new(ConfigHandle::new(loaded.config), handle, workers, rows, loaded.file, now));
    let _ = state.log_follows.set(log_follows);
    if let Err(fault) = cenote::commands::load_users(&state) {
        eprintln!("cenote: {fault}");
        return ExitCode::from(USAGE);
    }
    let oom_score = state.config.load().oom_score;
    if let Err(error) = state.set_oom_score(oom_score) {
        tracing::warn!("oom-score-adj has no effect: {error}");
    }
    serve_to_the_end(state, is_detached)
}

/// `server-cpulist` and `bio-cpulist`: before the threads are counted and started, for they go with this one.
fn place_threads(config: &Config) {
    if let Err(error) = cenote::process::pin(config.value("server-cpulist").unwrap_or_default()) {
        tracing::warn!("server-cpulist has no effect: {error}");
    }
    if let Some(cpus) = config.value("bio-cpulist").filter(|cpus| !cpus.is_empty()) {
        cenote::keyspace::free_on(cpus);
    }
}

fn serve_to_the_end(state: Arc<State>, is_detached: bool) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cenote: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(state, is_detached)) {
        Ok(()) => {
            tracing::info!("stopped; every command that was running has been answered");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cenote: {error}");
            ExitCode::FAILURE
        }
    }
}

/// As soon as connections are accepted, tells systemd, if it asked, and whoever started the server in the background; and
/// writes the pid file, which is never that of a server that found its port taken. Then keeps that file.
async fn tell_when_listening(state: Arc<State>, is_detached: bool) {
    while state.listeners.lock().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let config = state.config.load();
    let pid_file = (!config.pidfile.is_empty()).then(|| PidFile::write(&config.pidfile));
    if let Some(Err(error)) = &pid_file {
        tracing::warn!("the pid file '{}' cannot be written: {error}", config.pidfile);
    }
    if let Err(error) = notify_ready(config.value("supervised").unwrap_or("no")) {
        tracing::warn!("systemd cannot be told that the server is ready: {error}");
    }
    if is_detached && let Err(error) = daemon::tell_ready() {
        tracing::warn!("who started the server cannot be told that it is ready: {error}");
    }
    // To the end of the runtime.
    std::future::pending::<()>().await;
    drop(pid_file);
}

/// Reads the routes file, and the files of TLS, again at each SIGHUP; the log tells what came of it.
async fn reload_on_hangup(mut hangup: Signal, state: Arc<State>) {
    while hangup.recv().await.is_some() {
        state.reload_tls();
        let _ = state.reload_routes(cenote::clock::now_ms());
    }
}

async fn serve(state: Arc<State>, is_detached: bool) -> std::io::Result<()> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // As in Redis, the end of the terminal is not the end of the server. Taking the signal is enough to ignore it.
    let _hangup = signal(SignalKind::hangup())?;
    let stopping = Arc::clone(&state);
    tokio::spawn(async move {
        let name = tokio::select! { _ = term.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
        tracing::info!("{name} received: stopping");
        let config = stopping.config.load();
        let hurries = if name == "SIGTERM" { config.shutdown_now_on_sigterm } else { config.shutdown_now_on_sigint };
        stopping.hurried.fetch_or(hurries, Ordering::Relaxed);
        stopping.stop();
    });
    tokio::spawn(tell_when_listening(Arc::clone(&state), is_detached));
    tokio::spawn(reload_on_hangup(signal(SignalKind::hangup())?, Arc::clone(&state)));
    tokio::spawn(cenote::invalidate::run(Arc::clone(&state)));
    let config = state.config.load();
    if config.metrics_port > 0 {
        let (bind, port) = (config.metrics_bind.as_str(), config.metrics_port);
        let listener = tokio::net::TcpListener::bind((bind, port)).await.map_err(|error| {
            std::io::Error::other(format!("the metrics cannot be served on {bind}, port {port}: {error}"))
        })?;
        tracing::info!("metrics on {bind}, port {port}");
        tokio::spawn(cenote::server::serve_metrics(Arc::clone(&state), listener));
    }
    cenote::server::serve(state).await
}

/// What an operator wants to know first: limits and routes. The listener tells its addresses itself.
fn announce(config: &Config, sources: &Sources, workers: usize) {
    let memory = if config.maxmemory == 0 { "no limit".into() } else { format!("{} bytes", config.maxmemory) };
    tracing::info!(
        "Cenote {} starts: {workers} workers, {} databases, maxclients {}, maxmemory {memory}",
        env!("CARGO_PKG_VERSION"),
        config.databases,
        config.maxclients,
    );
    for route in sources.routes() {
        tracing::info!("route {}: {}, ttl {:?}", route.name, route.shape.name(), route.terms.ttl);
    }
    if !sources.has_routes() {
        tracing::info!("no routes: every miss is a nil (--routes FILE adds them)");
    }
}

/// The sources and routes of a file; none without one. Nothing is connected yet.
fn open_sources(file: Option<&Path>) -> Result<Sources, Vec<String>> {
    let Some(file) = file else { return Ok(Sources::default()) };
    let texts = |faults: Vec<cenote::source::Fault>| faults.iter().map(ToString::to_string).collect::<Vec<_>>();
    let config = cenote::source::Config::read(file, None).map_err(texts)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Sources::open(&config).map_err(|message| vec![format!("{}: {message}", file.display())])
}

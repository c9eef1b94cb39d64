// What stands, hidden, around each example of the documentation that asks a daemon:
//
//     # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
//     # fn main() { with_daemon(|| {
//     ...
//     # Ok(()) }) }
//
// It is included, so it has no `use` that an example could trip over.

/// Runs an example against an objmapperd of its own, which serves a small tree.
///
/// The example finds the socket as any program does, by OBJMAPPER_SOCKET. To set a variable of a
/// running program is unsafe, so this program starts itself again, with it.
#[allow(dead_code)]
fn with_daemon(example: fn() -> Result<(), objmapper_client::Error>) {
    const AGAIN: &str = "OBJMAPPER_EXAMPLE_AGAIN";
    if std::env::var_os(AGAIN).is_some() {
        return example().expect("the example's daemon says no");
    }

    struct Daemon(std::process::Child);
    impl Drop for Daemon {
        fn drop(&mut self) {
            // It keeps nothing that would have to be put in order.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    let place = tempfile::tempdir().expect("a place for the example");
    let (root, socket) = (place.path().join("root"), place.path().join("socket"));
    let put = |name: &str, length: usize| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
        std::fs::write(path, vec![b'x'; length]).expect("a file");
    };
    for (name, length) in [("models/a.gguf", 3_000_000), ("models/a.json", 20), ("data/index", 700)]
    {
        put(name, length);
    }
    (0..100).for_each(|shard| put(&format!("shards/{shard}"), shard));

    // Cargo lets every test look for libraries in its build's directory: `deps`, below the programs.
    let named = std::env::var_os("OBJMAPPERD").map(std::path::PathBuf::from);
    let built = || {
        let libraries = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        std::env::split_paths(&libraries)
            .filter_map(|deps| Some(deps.parent()?.join("objmapperd")))
            .find(|program| program.exists())
    };
    let program = named.or_else(built).expect(
        "the examples need the daemon: build it with `cargo build -p objmapperd` \
         (in the same profile), or name it in OBJMAPPERD",
    );
    let daemon = std::process::Command::new(program)
        .args(["--config", "/dev/null", "--log", "warn", "--mount"])
        .arg(format!("/={},shared=true", root.display()))
        .arg("--socket")
        .arg(&socket)
        .arg("--kv-socket")
        .arg(place.path().join("keys"))
        .spawn();
    let mut daemon = Daemon(daemon.expect("objmapperd starts"));
    while objmapper_client::Client::builder().path(&socket).connect().is_err() {
        let ended = daemon.0.try_wait().expect("it is our child");
        assert!(ended.is_none(), "objmapperd ended: {ended:?}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }

    let program = std::env::current_exe().expect("this program");
    let ended = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(AGAIN, "1")
        .env("OBJMAPPER_SOCKET", &socket)
        .status()
        .expect("it starts again");
    assert!(ended.success(), "the example fails: {ended}");
}

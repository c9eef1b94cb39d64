//! What is refused, and what is said about it.

use crate::scene::{Place, checked, objmapperd, refused};

#[test]
fn a_name_that_is_not_known_is_told_with_its_line() {
    let place = Place::new();
    let file = place.file("[pool]\nworkrs = 3\n");
    let said = refused(Some(&file), &[], &[]);
    let expected = format!(
        "objmapperd: there is a mistake in the configuration:\n  \
         {}:5: unknown key `workrs`, expected one of `workers`, `helpers`, `spin`\n    workrs = 3\n",
        file.display()
    );
    assert_eq!(said, expected);
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_line() {
    let place = Place::new();
    let said = refused(Some(&place.file("[pool\n")), &[], &[]);
    assert!(said.contains("objmapperd.toml:4: ") && said.ends_with("    [pool\n"), "{said}");
    let said = refused(Some(&place.file("[pool]\nworkers = true\n")), &[], &[]);
    let expected = "objmapperd.toml:5: must be a text in quotes or a whole number, this is boolean\n    workers = true\n";
    assert!(said.ends_with(expected), "{said}");
    let said = refused(Some(&place.path("nowhere")), &[], &[]);
    assert!(said.contains("nowhere: cannot be read: No such file"), "{said}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let place = Place::new();
    let file = place.file(
        "allow = [\"user:no-such-user\", \"anybody\"]\n[limits]\nsend_buffer = \"64QB\"\n\
         index_shards = 12\n[listen]\nmode = 660\n",
    );
    let flags = ["--drain-deadline", "soon", "--mount", "/x", "--mount", "/y=/no/such/dir"];
    let said = refused(Some(&file), &flags, &[("OBJMAPPERD_POOL_SIZE", "many")]);
    let file = file.display().to_string();
    for expected in [
        "objmapperd: there are 9 mistakes in the configuration:",
        "\n  --drain-deadline \"soon\": must be a duration",
        &format!("{file}:9: listen.mode = 660: must be octal digits in quotes"),
        "\n  OBJMAPPERD_POOL_SIZE \"many\": must be a whole number from 0 to 1024",
        &format!("{file}:6: limits.send_buffer = \"64QB\": must be a size from 0 to \"512MiB\""),
        &format!("{file}:7: limits.index_shards = 12: must be a power of two"),
        "--mount \"/x\": must be URI=DIR",
        "\n  --mount, dir \"/no/such/dir\": must be a directory that exists",
        &format!("{file}:4: mount.allow = \"user:no-such-user\": must be a user that exists"),
        &format!("{file}:4: mount.allow = \"anybody\": must be \"any\", \"uid:N\""),
    ] {
        assert!(said.contains(expected), "missing: {expected}\nin: {said}");
    }
}

#[test]
fn mistakes_of_form_and_of_value_are_told_together() {
    let place = Place::new();
    let file = place.file(
        "alow = [\"any\"]\n[pol]\n[[mount]]\nuri = \"/b\"\nallow = \"any\"\n[limits]\n\
         send_bufer = 1\nindex_shards = 12\nindex_bytes = [1]\nconnections = 99999999999999999999\n\
         [log]\nfilter = 1.5\n",
    );
    let said = refused(Some(&file), &["--pool-size", "many", "--root", "/no/such/dir"], &[]);
    let file = file.display();
    let expected = [
        "objmapperd: there are 11 mistakes in the configuration:".to_owned(),
        format!("{file}:4: unknown key `alow`, expected one of `uri`, `dir`, "),
        format!("{file}:5: unknown key `pol`, expected one of `drain_deadline`, `mount`"),
        format!("{file}:6: missing key `dir`\n    [[mount]]"),
        format!("{file}:8: must be a list of texts in [ ]\n    allow = \"any\""),
        format!("{file}:10: unknown key `send_bufer`, expected one of `connections`"),
        format!("{file}:11: limits.index_shards = 12: must be a power of two"),
        format!("{file}:12: must be a text in quotes or a whole number, this is array"),
        format!("{file}:13: a number as large as this is not understood"),
        format!("{file}:15: must be a text in quotes or a whole number, this is float"),
        "--pool-size \"many\": must be a whole number".to_owned(),
        "--root \"/no/such/dir\": must be a directory that exists".to_owned(),
    ];
    let mut rest = said.as_str();
    for line in expected {
        let (_, after) = rest.split_once(&line).unwrap_or_else(|| panic!("{line}\nin: {said}"));
        rest = after;
    }
}

#[test]
fn every_line_that_is_no_toml_is_told() {
    let place = Place::new();
    let said = refused(Some(&place.file("[pool]\nworkers 3\nhelpers = 4 =\n[log\n")), &[], &[]);
    for line in ["toml:5: ", "toml:6: ", "toml:7: "] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.contains("there are 3 mistakes"), "{said}");
}

#[test]
fn a_mode_without_quotes_is_told_how_to_write_it() {
    let place = Place::new();
    let said = refused(Some(&place.file("[listen]\nmode = 0660\n")), &[], &[]);
    assert!(said.contains("write octal digits in quotes, such as \"0660\""), "{said}");
}

#[test]
fn what_would_be_accepted_is_told_as_it_is_to_be_written() {
    let place = Place::new();
    let tree = place.tree();
    let flags =
        ["--root", &tree, "--spin", "5", "--socket-mode", "999", "--kv-maxmemory", "1 parsec"];
    let said = refused(None, &flags, &[]);
    for expected in [
        "--spin \"5\": must be a duration with its unit, such as \"5ms\", of at most 10ms\n",
        "--socket-mode \"999\": must be octal digits, from \"0000\" to \"0777\"\n",
        "--kv-maxmemory \"1 parsec\": must be a size from 0 to \"1PiB\"",
    ] {
        assert!(said.contains(expected), "missing: {expected}\nin: {said}");
    }
}

#[test]
fn one_socket_does_not_serve_objects_and_keys() {
    let place = Place::new();
    let (tree, socket) = (place.tree(), place.path("s"));
    let socket = socket.to_str().unwrap();
    let flags = ["--root", &tree, "--socket", socket, "--kv-socket", socket];
    let said = refused(None, &flags, &[]);
    assert!(said.contains("cannot be the socket for objects and for Redis clients"), "{said}");
}

#[test]
fn keys_in_memory_cannot_always_be_on_the_disk() {
    let keys = ["--kv-socket", "@no-such", "--kv-sync"];
    let said = refused(None, &[&keys[..], &["always"]].concat(), &[]);
    assert!(said.contains("--kv-sync \"always\": must have a directory to sync"), "{said}");
    // What `--check-config` prints of keys in memory can be used as a file.
    let shown = checked(None, &[&keys[..], &["interval"]].concat(), &[]);
    assert!(shown.contains("sync = \"interval\""), "{shown}");
    let place = Place::new();
    let kept = place.path("kv").display().to_string();
    let shown = checked(None, &[&keys[..], &["always", "--kv-dir", &kept]].concat(), &[]);
    assert!(shown.contains("sync = \"always\""), "{shown}");
}

#[test]
fn two_mounts_at_one_uri_are_a_mistake() {
    let place = Place::new();
    let file =
        place.file("[[mount]]\nuri = \"/a\"\ndir = \"/\"\n[[mount]]\nuri = \"/a/\"\ndir = \"/\"\n");
    let said = refused(Some(&file), &[], &[]);
    let file = file.display();
    let expected = format!(
        "{file}:8: mount.uri = \"/a/\": must be mounted only once: {file}:5 already mounts it"
    );
    assert!(said.contains(&expected), "{said}");
    let said = refused(None, &["--root", "/usr", "--mount", "/=/etc"], &[]);
    assert!(
        said.contains("--mount, uri \"/\": must be mounted only once: --root already mounts it"),
        "{said}"
    );
}

#[test]
fn without_a_mount_one_is_told_what_to_do() {
    let said = refused(None, &[], &[]);
    assert!(
        said.contains("nothing to serve") && said.contains("`objmapperd --root DIR`"),
        "{said}"
    );
    let output = objmapperd(None, &["--frobnicate"], &[]);
    assert_eq!(output.status.code(), Some(2));
}

//! Keys by their URIs, in every mode: `kv:users/42`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use objmapper::kv::{Expiry, Keyspace, Options};
use objmapper::{
    Caller, Delivered, Fill, Keys, Kind, Listing, Miss, Mode, Mount, Mounts, Patience, Refusal,
    Rules, Store, Want,
};

fn town() -> (Arc<Keyspace>, Store) {
    let keyspace = Arc::new(Keyspace::in_memory(Options { inline: 100, ..Options::default() }));
    let keys = Arc::new(Keys::new(keyspace.clone(), 0));
    let mount = Mount::new("kv:".parse().unwrap(), keys, Rules::owner_only());
    (keyspace, Store::new(Mounts::new(vec![mount]).unwrap()))
}

fn set(keyspace: &Keyspace, name: &[u8], value: &[u8]) {
    let key = keyspace.key(0, name);
    let content = keyspace.content(value).unwrap();
    keyspace.hold(&key, Keyspace::now()).set(&key, content, Expiry::Never).unwrap();
}

fn get(store: &Store, uri: &[u8], mode: Mode) -> Result<(objmapper::Object, Vec<u8>), Miss> {
    let want = Want { uri, mode, ..Want::default() };
    let delivery = store.deliver(&mut Caller::own(), &want, Patience::Never)?;
    let mut bytes = Vec::new();
    match delivery.delivered {
        Delivered::Descriptor(file) => {
            let own: OwnedFd = file.as_fd().try_clone_to_owned().unwrap();
            File::from(own).read_to_end(&mut bytes).unwrap();
        }
        Delivered::Inline(body) | Delivered::Stream(body) => {
            assert_eq!(body.fill(&mut bytes, Patience::Never).unwrap(), Fill::Whole);
        }
        other => panic!("{other:?}"),
    }
    Ok((delivery.object, bytes))
}

#[test]
fn a_key_is_an_object_in_every_mode() {
    let (keyspace, store) = town();
    for value in [&b""[..], b"short", &[b'x'; 1000], &vec![b'y'; 3 << 20]] {
        set(&keyspace, b"users/42", value);
        for mode in [Mode::Fdpass, Mode::Copy, Mode::Splice, Mode::Auto] {
            let (object, bytes) = get(&store, b"kv:users/42", mode).unwrap();
            assert!(bytes == value, "{mode:?}");
            assert_eq!((object.size, object.kind), (value.len() as u64, Kind::Memory));
            assert!(object.immutable && object.seals != 0);
        }
    }
}

#[test]
fn what_was_handed_out_stays_as_it_was() {
    let (keyspace, store) = town();
    set(&keyspace, b"k", b"before");
    let want = Want { uri: b"kv:k", mode: Mode::Fdpass, ..Want::default() };
    let delivery = store.deliver(&mut Caller::own(), &want, Patience::Never).unwrap();
    set(&keyspace, b"k", b"after!");
    let Delivered::Descriptor(file) = delivery.delivered else { panic!() };
    let mut file = File::from(file.as_fd().try_clone_to_owned().unwrap());
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before");
    assert!(std::io::Write::write(&mut file, b"x").is_err());
}

#[test]
fn the_version_says_whether_the_value_changed() {
    let (keyspace, store) = town();
    for value in [&b"one"[..], &[b'x'; 5000]] {
        set(&keyspace, b"k", value);
        let version = |store: &Store| get(store, b"kv:k", Mode::Copy).unwrap().0.version;
        let first = version(&store);
        assert_eq!(version(&store), first);
        let stat = store.stat(&mut Caller::own(), b"kv:k", Patience::Never).unwrap();
        assert_eq!(stat.version, first);
        let want =
            Want { uri: b"kv:k", mode: Mode::Fdpass, unless: Some(first), ..Want::default() };
        let same = store.deliver(&mut Caller::own(), &want, Patience::Never).unwrap();
        assert!(matches!(same.delivered, Delivered::NotModified));
        let other: Vec<u8> = value.iter().map(|b| b ^ 1).collect();
        set(&keyspace, b"k", &other);
        assert_ne!(version(&store), first);
    }
}

#[test]
fn keys_are_bytes_and_have_one_name_each() {
    let (keyspace, store) = town();
    for (key, uri) in [
        (&b"a b"[..], &b"kv:a%20b"[..]),
        (b"\0\xff", b"kv:%00%FF"),
        (b"..", b"kv:.."),
        (b"a//b", b"kv:a//b"),
        (b"100%", b"kv:100%25"),
    ] {
        set(&keyspace, key, uri);
        assert_eq!(get(&store, uri, Mode::Copy).unwrap().1, uri, "{}", uri.escape_ascii());
    }
    let refused = get(&store, b"kv:a%2Fb", Mode::Copy).unwrap_err();
    assert_eq!(refused, Miss::Refused(Refusal::BadKey));
    assert_eq!(refused.to_string(), "a key has one name: write a '/' in it as it is, not as %2F");
    let missing = get(&store, b"kv:nothing", Mode::Fdpass).unwrap_err();
    assert_eq!(missing, Miss::Refused(Refusal::NotFound));
}

#[test]
fn a_listing_goes_through_the_keys_in_order_page_by_page() {
    let (keyspace, store) = town();
    for n in 0..50 {
        set(&keyspace, format!("users/{n:02}").as_bytes(), b"x");
    }
    set(&keyspace, b"users/deep/er", b"x");
    set(&keyspace, b"other", b"xyz");
    let all = |prefix: &[u8], limit| {
        let (mut names, mut cursor) = (Vec::new(), Vec::new());
        loop {
            let listing = Listing { prefix, cursor: &cursor, limit };
            let page = store.list(&mut Caller::own(), &listing).unwrap();
            names.extend(page.names.into_iter().map(|n| String::from_utf8(n.name.into()).unwrap()));
            let Some(next) = page.next else { return names };
            cursor = next.into();
        }
    };
    assert_eq!(all(b"kv:", 10), ["other", "users/"]);
    let mut expected: Vec<String> = (0..50).map(|n| format!("{n:02}")).collect();
    expected.push("deep/".into());
    for limit in [1, 7, 1000] {
        assert_eq!(all(b"kv:users/", limit), expected, "{limit}");
    }
    let nothing = Listing { prefix: b"kv:none/", cursor: b"", limit: 10 };
    assert!(store.list(&mut Caller::own(), &nothing).is_err());
}

#[test]
fn who_may_not_wait_copies_no_long_value() {
    let (keyspace, store) = town();
    let key = keyspace.key(0, b"grown");
    // What grew by pieces lies in memory of our own.
    for at in 0..3 {
        let mut hold = keyspace.hold(&key, Keyspace::now());
        hold.write_at(&key, at << 20, &vec![b'x'; 1 << 20]).unwrap();
    }
    let want = Want { uri: b"kv:grown", mode: Mode::Fdpass, ..Want::default() };
    for patience in [Patience::Never, Patience::Block] {
        let opened = store.deliver(&mut Caller::own(), &want, patience);
        let told = store.stat(&mut Caller::own(), b"kv:grown", patience);
        if patience == Patience::Never {
            assert!(
                matches!(opened, Err(Miss::WouldBlock)) && matches!(told, Err(Miss::WouldBlock))
            );
        } else {
            assert_eq!((opened.unwrap().object.size, told.unwrap().size), (3 << 20, 3 << 20));
        }
    }
}

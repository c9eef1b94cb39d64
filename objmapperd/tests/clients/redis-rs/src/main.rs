//! What a program does with redis-rs.

use redis::{Commands, ErrorKind, RedisResult};

fn main() -> RedisResult<()> {
    let path = std::env::args().nth(1).expect("the socket");
    for version in ["", "?protocol=resp3"] {
        let client = redis::Client::open(format!("redis+unix://{path}{version}"))?;
        let mut keys = client.get_connection()?;
        work(&mut keys)?;
    }
    Ok(())
}

fn work(keys: &mut redis::Connection) -> RedisResult<()> {
    redis::cmd("FLUSHALL").exec(keys)?;
    let blob: Vec<u8> = (0..300_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let _: () = keys.set("blob", &blob)?;
    assert_eq!(keys.get::<_, Vec<u8>>("blob")?, blob);
    assert_eq!(keys.get::<_, Option<String>>("nothing")?, None);
    assert!(keys.set_nx::<_, _, bool>("once", 1)?);
    assert!(!keys.set_nx::<_, _, bool>("once", 2)?);
    let _: () = keys.set_ex("short", "x", 100)?;
    assert!((1..=100).contains(&keys.ttl::<_, i64>("short")?));

    let mut pipe = redis::pipe();
    for n in 0..1000 {
        pipe.set(format!("key:{n}"), n).ignore().get(format!("key:{n}"));
    }
    assert_eq!(pipe.query::<Vec<u32>>(keys)?, (0..1000).collect::<Vec<_>>());

    let (sum,): (i64,) = redis::transaction(keys, &["n"], |keys, pipe| {
        let old: Option<i64> = keys.get("n")?;
        pipe.set("n", old.unwrap_or(0) + 41).ignore().incr("n", 1).query(keys)
    })?;
    assert_eq!(sum, 42);

    let names: Vec<String> = keys.scan_match("key:*")?.collect();
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 1000);

    let refused: RedisResult<i64> = keys.lpush("list", 1);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ResponseError);
    Ok(())
}

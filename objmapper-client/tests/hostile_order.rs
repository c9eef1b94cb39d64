//! Answers that overtake bodies, said by hand: where it was agreed on each request gets its own answer,
//! and a daemon that mixes them up is found out; where it was not, the first that overtakes is a
//! violation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test that panics has failed

mod common;

use common::*;
use objmapper_client::{Answer, Client, Error, Mode, Request};
use objmapper_proto::frame::{Header, Op};
use objmapper_proto::reply::{End, ErrorReply};
use objmapper_proto::word::flag;
use objmapper_proto::{Delivery, Reply, Status};

fn begin(peer: &mut Peer, id: u64, length: u64) {
    peer.reply(id, Reply::Object(item(head(Delivery::Stream, length))), &[]);
}

fn data(peer: &mut Peer, id: u64, bytes: &[u8]) {
    peer.reply(id, Reply::Data(bytes), &[]);
}

fn end(peer: &mut Peer, id: u64, length: u64, status: Status) {
    peer.reply(id, Reply::End(End { status, length, text: "" }), &[]);
}

/// Asks for these, is lied to, and checks that this is said, once, that the connection ends, and that
/// each request has one result.
fn lied(
    requests: &[Request<'static>],
    script: impl FnOnce(&mut Peer, &[u64]) + Send + 'static,
    expected: &str,
) {
    let _no_leak = no_leak();
    let count = requests.len();
    let (mut client, peer) = against_out_of_order(move |mut peer| {
        let ids: Vec<u64> = (0..count).map(|_| peer.request().unwrap().header.id).collect();
        script(&mut peer, &ids);
        peer.listen();
    });
    let mut answers = ask_all(&mut client, requests);
    answers.sort_by_key(|answer| answer.0);
    assert!(answers.iter().map(|answer| answer.0).eq(0..count), "one result for each");
    let said: Vec<&Error> = answers.iter().filter_map(|answer| answer.1.as_ref().err()).collect();
    let text = |error: &Error| error.to_string();
    assert!(said.iter().all(|error| text(error).contains(expected)), "{said:?}: not {expected:?}");
    let first: Vec<_> = said.iter().filter(|e| !matches!(e, Error::Closed { .. })).collect();
    assert!(first.len() == 1 && first[0].is_daemon_fault(), "{said:?}");
    assert!(matches!(client.ping(), Err(Error::Closed { .. })));
    peer.join().unwrap();
}

const NOT_OWED: &str = "answers no request that is under way";

#[test]
fn each_body_goes_to_its_own_request() {
    let _no_leak = no_leak();
    let (mut client, peer) = against_out_of_order(|mut peer| {
        let ids: Vec<u64> = (0..5).map(|_| peer.request().unwrap().header.id).collect();
        begin(&mut peer, ids[0], 6);
        begin(&mut peer, ids[1], 4);
        data(&mut peer, ids[1], b"bb");
        data(&mut peer, ids[0], b"aa");
        peer.reply(ids[4], Reply::Pong(b"are you there"), &[]);
        data(&mut peer, ids[0], b"aaa");
        peer.reply(ids[3], Reply::Object(refused(Status::NotFound, "none")), &[]);
        data(&mut peer, ids[1], b"bb");
        end(&mut peer, ids[1], 4, Status::Ok);
        begin(&mut peer, ids[2], 9);
        data(&mut peer, ids[2], b"ccc");
        end(&mut peer, ids[2], 3, Status::Changed);
        data(&mut peer, ids[0], b"a");
        end(&mut peer, ids[0], 6, Status::Ok);
        peer.pong();
    });
    assert!(client.is_out_of_order());
    let requests = [A, B, get("/c"), get("/none"), Request::ping()];
    let mut answers = ask_all(&mut client, &requests).into_iter();
    let mut next = |place| {
        let (at, answer) = answers.next().unwrap();
        assert_eq!(at, place);
        answer
    };
    assert!(matches!(next(4), Ok(Answer::Pong)));
    assert!(next(3).unwrap_err().is_not_found());
    assert_eq!(bytes(next(1)), b"bbbb");
    assert_eq!(next(2).unwrap_err().to_string(), "/c: CHANGED");
    assert_eq!(bytes(next(0)), b"aaaaaa");
    client.ping().unwrap();
    peer.join().unwrap();
}

#[test]
fn descriptors_go_by_the_order_of_frames() {
    let _no_leak = no_leak();
    let (mut client, peer) = against_out_of_order(|mut peer| {
        let ids: Vec<u64> = (0..3).map(|_| peer.request().unwrap().header.id).collect();
        begin(&mut peer, ids[0], 4);
        // The last request is answered first; one message has the descriptors of both.
        let mut both = Vec::new();
        Reply::Data(b"ab").encode(ids[0], 0, &mut both);
        for id in [ids[2], ids[1]] {
            Reply::Object(item(head(Delivery::Descriptor, 5))).encode(id, 1, &mut both);
        }
        let (third, second) = (file(b"third"), file(b"secnd"));
        peer.raw(&both, &[borrow(&third), borrow(&second)]);
        data(&mut peer, ids[0], b"cd");
        end(&mut peer, ids[0], 4, Status::Ok);
        peer.pong();
    });
    let open = |uri| Request::get(uri, Mode::Fdpass);
    let answers = ask_all(&mut client, &[A, open("/second"), open("/third")]);
    let came: Vec<_> = answers.into_iter().map(|(at, answer)| (at, bytes(answer))).collect();
    assert_eq!(came, [(2, b"third".to_vec()), (1, b"secnd".to_vec()), (0, b"abcd".to_vec())]);
    client.ping().unwrap();
    peer.join().unwrap();
}

/// Two bodies of four bytes and an answer between their pieces.
fn interleaved(ids: &[u64]) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut add = |id: u64, reply: Reply<'_>| reply.encode(id, 0, &mut stream);
    let body = Reply::Object(item(head(Delivery::Stream, 4)));
    let over = Reply::End(End { status: Status::Ok, length: 4, text: "" });
    add(ids[0], body);
    add(ids[0], Reply::Data(b"a1"));
    add(ids[1], body);
    add(ids[1], Reply::Data(b"b1b2"));
    add(ids[2], Reply::Object(inline(b"c")));
    add(ids[1], over);
    add(ids[0], Reply::Data(b"a2"));
    add(ids[0], over);
    stream
}

/// Wherever the stream is cut, who looks, waits or throws away goes on where looking stopped.
#[test]
fn how_the_stream_is_cut_changes_nothing() {
    let _no_leak = no_leak();
    for cut in 0..interleaved(&[0; 3]).len() {
        for then in ["look", "wait", "drop"] {
            let (mut client, mut peer) = alone(OUT_OF_ORDER);
            let mut pipeline = client.pipeline().unwrap();
            for asked in [A, B, get("/c")] {
                pipeline.queue(asked).unwrap();
            }
            pipeline.flush().unwrap();
            let ids: Vec<u64> = (0..3).map(|_| peer.request().unwrap().header.id).collect();
            let stream = interleaved(&ids);
            let mut answers = Vec::new();
            peer.raw(&stream[..cut], &[]);
            answers.extend(std::iter::from_fn(|| pipeline.try_next()));
            assert!(answers.len() < 3);
            peer.raw(&stream[cut..], &[]);
            match then {
                "look" => answers.extend(std::iter::from_fn(|| pipeline.try_next())),
                "wait" => answers.extend(pipeline.by_ref()),
                _ => (),
            }
            drop(pipeline);
            if then != "drop" {
                let came: Vec<_> = answers.into_iter().map(|(_, a)| bytes(a)).collect();
                assert_eq!(came, [&b"c"[..], b"b1b2", b"a1a2"], "cut at {cut}");
            }
            let peer = std::thread::spawn(move || peer.pong());
            client.ping().unwrap();
            peer.join().unwrap();
        }
    }
}

#[test]
fn an_answer_to_a_request_that_was_never_made() {
    lied(&[A, B], |peer, ids| peer.reply(ids[1] + 1, Reply::Object(inline(b"x")), &[]), NOT_OWED);
}

#[test]
fn data_for_a_body_that_there_is_not() {
    lied(&[A, B], |peer, ids| data(peer, ids[1] + 7, b"x"), NOT_OWED);
    let not_begun = |peer: &mut Peer, ids: &[u64]| {
        begin(peer, ids[0], 4);
        data(peer, ids[1], b"x");
    };
    lied(&[A, B], not_begun, "does not answer a GET");
    let of_a_ping = |peer: &mut Peer, ids: &[u64]| data(peer, ids[1], b"x");
    lied(&[A, Request::ping()], of_a_ping, "does not answer what was asked");
}

#[test]
fn an_end_that_comes_twice() {
    let twice = |peer: &mut Peer, ids: &[u64]| {
        begin(peer, ids[1], 1);
        data(peer, ids[1], b"x");
        end(peer, ids[1], 1, Status::Ok);
        end(peer, ids[1], 1, Status::Ok);
    };
    lied(&[A, B], twice, NOT_OWED);
    lied(&[A, B], |peer, ids| end(peer, ids[0], 0, Status::Ok), "does not answer a GET");
}

#[test]
fn an_answer_that_comes_twice() {
    let again = |peer: &mut Peer, ids: &[u64]| {
        peer.reply(ids[1], Reply::Object(inline(b"x")), &[]);
        peer.reply(ids[1], Reply::Object(inline(b"x")), &[]);
    };
    lied(&[A, B], again, NOT_OWED);
    let during_its_body = |peer: &mut Peer, ids: &[u64]| {
        begin(peer, ids[0], 5);
        data(peer, ids[0], b"x");
        begin(peer, ids[0], 5);
    };
    lied(&[A, B], during_its_body, "neither DATA nor END");
    let refused_during_it = |peer: &mut Peer, ids: &[u64]| {
        begin(peer, ids[0], 5);
        let error = ErrorReply { status: Status::Io, retry_after_ms: 0, text: "" };
        peer.reply(ids[0], Reply::Error(error), &[]);
    };
    lied(&[A, B], refused_during_it, "neither DATA nor END");
}

#[test]
fn bodies_of_the_wrong_length() {
    let longer = |peer: &mut Peer, ids: &[u64]| {
        begin(peer, ids[0], 3);
        begin(peer, ids[1], 5);
        data(peer, ids[0], b"xxx");
        data(peer, ids[0], b"x");
    };
    lied(&[A, B], longer, "longer than was announced");
    let shorter = |peer: &mut Peer, ids: &[u64]| {
        begin(peer, ids[0], 3);
        begin(peer, ids[1], 5);
        data(peer, ids[1], b"xxx");
        end(peer, ids[1], 3, Status::Ok);
    };
    lied(&[A, B], shorter, "shorter than was announced");
    // All bytes there are, and not those of this body.
    let mixed_up = |peer: &mut Peer, ids: &[u64]| {
        begin(peer, ids[0], 2);
        begin(peer, ids[1], 2);
        data(peer, ids[0], b"x");
        data(peer, ids[1], b"x");
        end(peer, ids[0], 2, Status::Ok);
    };
    lied(&[A, B], mixed_up, "not what came");
}

#[test]
fn a_descriptor_on_data() {
    let with_one = |peer: &mut Peer, ids: &[u64]| {
        begin(peer, ids[0], 3);
        let file = file(b"x");
        peer.raw(&Header::new(Op::Data, ids[0], 1, 1).encode(), &[borrow(&file)]);
        peer.raw(b"x", &[]);
    };
    lied(&[A, B], with_one, "does not belong to the body");
    let left_over = |peer: &mut Peer, ids: &[u64]| {
        peer.reply(ids[1], Reply::Object(inline(b"x")), &[]);
        let mut bytes = Vec::new();
        Reply::Object(inline(b"x")).encode(ids[0], 0, &mut bytes);
        peer.raw(&bytes, &[borrow(&file(b"x"))]);
    };
    lied(&[A, B], left_over, "no frame declares them");
}

#[test]
fn more_bodies_than_there_may_be() {
    let all = |peer: &mut Peer, ids: &[u64]| ids.iter().for_each(|id| begin(peer, *id, 1 << 40));
    lied(&[A; 17], all, "more bodies are under way");
}

#[test]
fn a_last_word_is_heard_between_bodies() {
    let last = |peer: &mut Peer, ids: &[u64]| {
        begin(peer, ids[0], 5);
        data(peer, ids[0], b"x");
        let error = ErrorReply { status: Status::Stopping, retry_after_ms: 0, text: "at noon" };
        peer.reply(0, Reply::Error(error), &[]);
    };
    lied(&[A, B], last, "STOPPING: at noon");
}

#[test]
fn goodbye_counts_what_is_still_to_come() {
    for (said, truth) in [(2, true), (1, false), (3, false), (0, false)] {
        let _no_leak = no_leak();
        let (mut client, peer) = against_out_of_order(move |mut peer| {
            let ids: Vec<u64> = (0..3).map(|_| peer.request().unwrap().header.id).collect();
            begin(&mut peer, ids[0], 2);
            peer.reply(ids[1], Reply::Object(inline(b"x")), &[]);
            begin(&mut peer, ids[2], 1);
            let close = peer.request().unwrap();
            assert_eq!(close.header.op, Op::Close as u8);
            peer.reply(close.header.id, Reply::CloseAck(said), &[]);
            data(&mut peer, ids[0], b"xx");
            end(&mut peer, ids[0], 2, Status::Ok);
            end(&mut peer, ids[2], 0, Status::Changed);
        });
        let mut pipeline = client.pipeline().unwrap();
        for asked in [A, B, get("/c")] {
            pipeline.queue(asked).unwrap();
        }
        assert_eq!(bytes(pipeline.next().unwrap().1), b"x");
        drop(pipeline);
        match client.close() {
            Ok(()) => assert!(truth, "{said}"),
            Err(error) => assert!(!truth && error.to_string().contains("CLOSE_ACK"), "{error}"),
        }
        peer.join().unwrap();
    }
    // Nobody said goodbye.
    let unasked = |peer: &mut Peer, ids: &[u64]| peer.reply(ids[1] + 1, Reply::CloseAck(2), &[]);
    lied(&[A, B], unasked, NOT_OWED);
}

#[test]
fn what_is_said_of_the_order() {
    let _no_leak = no_leak();
    let answer_all = |mut peer: Peer, expected: [u8; 3]| {
        for flags in expected {
            let asked = peer.request().unwrap();
            assert_eq!(asked.header.flags, flags);
            peer.reply(asked.header.id, Reply::Object(inline(b"x")), &[]);
        }
    };
    let requests = [A.ordered(), A.priority(), A.ordered().priority()];
    let said = [flag::ORDERED, flag::PRIORITY, flag::ORDERED | flag::PRIORITY];
    let (mut client, peer) = against_out_of_order(move |peer| answer_all(peer, said));
    assert!(ask_all(&mut client, &requests).iter().all(|(_, answer)| answer.is_ok()));
    peer.join().unwrap();
    // A daemon that does not know it, or was not asked, is told nothing of it.
    let (mut client, peer) = against(move |peer| answer_all(peer, [0; 3]));
    assert!(!client.is_out_of_order());
    assert!(ask_all(&mut client, &requests).iter().all(|(_, answer)| answer.is_ok()));
    peer.join().unwrap();
}

#[test]
fn nothing_overtakes_where_it_was_not_agreed_on() {
    let both = |client: &mut Client| {
        let mut pipeline = client.pipeline().unwrap();
        pipeline.queue(A).unwrap();
        pipeline.queue(B).unwrap();
        pipeline.next().unwrap().1
    };
    let overtakes = |peer: &mut Peer, id| {
        let second = peer.request().unwrap().header.id;
        assert_eq!(second, id + 1);
        peer.reply(second, Reply::Object(inline(b"x")), &[]);
    };
    lie(both, overtakes, "another request than the oldest");
    let interleaves = |peer: &mut Peer, id| {
        begin(peer, id, 4);
        data(peer, id, b"x");
        peer.reply(id + 1, Reply::Object(inline(b"x")), &[]);
    };
    lie(both, interleaves, "another request than the oldest");
    let data_of_another = |peer: &mut Peer, id| {
        begin(peer, id, 4);
        data(peer, id + 1, b"x");
    };
    lie(both, data_of_another, "does not belong to the body");
}

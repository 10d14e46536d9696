//! Fuzzes the host's end of a connection to a hostile guest, after the greeting.
#![no_main]

use std::sync::LazyLock;

use airlock::engine::{AttachedStreams, OutputChunk};
use airlock::guest_client::GuestClient;
use airlock::protocol::{Kind, Root, self};
use bytes::Bytes;
use futures_util::stream;
use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
});
const NONCE: usize = 16;

fuzz_target!(|input: (u8, u8, Vec<u8>)| {
    let (piece, question, bytes) = input;
    RUNTIME.block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let (sender, receiver) = mpsc::channel::<Bytes>(64);
        tokio::spawn(async move {
            let mut hello = [0; protocol::HEADER_LEN + NONCE];
            if theirs.read_exact(&mut hello).await.is_err() {
                return;
            }
            let answer = [protocol::BANNER, &hello[protocol::HEADER_LEN..]].concat();
            let greeting = [&protocol::encode_header(Kind::Hello, 0, answer.len())[..], &answer].concat();
            let _ = sender.send(greeting.into()).await;
            let mut request = [0; 256];
            let _ = theirs.read(&mut request).await;
            for part in bytes.chunks(usize::from(piece) + 1) {
                if sender.send(part.to_vec().into()).await.is_err() {
                    return;
                }
            }
        });
        let output = stream::unfold(receiver, |mut r| async { r.recv().await.map(|b| (Ok(OutputChunk::Stdout(b)), r)) });
        let attached = AttachedStreams { input: Box::pin(ours), output: Box::pin(output) };
        let (accept, _connections) = mpsc::unbounded_channel();
        let link = GuestClient::perform_handshake(attached, accept).await.expect("the greeting is right");
        match question % 5 {
            0 => drop(link.list_dir(Root::Work, b"d", 100).await),
            1 => {
                if let Ok(content) = link.read(Root::Work, b"f", 64).await {
                    assert!(content.len() <= 64);
                }
            }
            2 => drop(link.measure_usage(Root::Upper, 9).await),
            3 => drop(link.flush_writes(drop).await),
            _ => drop(link.query_space(Root::Home).await),
        }
    });
});

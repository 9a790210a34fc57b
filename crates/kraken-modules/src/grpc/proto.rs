//! The protocol, for modules that are written in Rust too: `proto/kraken/module/v1/module.proto`.
#![allow(missing_docs, unreachable_pub, clippy::all)]

tonic::include_proto!("kraken.module.v1");

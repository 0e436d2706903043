//! Against real servers of the lab, as the role that `init --print` prints and nobody else.

mod canaries;
mod connecting;
mod copies;
mod identities;
mod sessions;
mod setup;
mod statements;
mod statuses;

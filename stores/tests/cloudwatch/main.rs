//! What CloudWatch says of replication: asked in the right region for the right thing, as of its own minute, and never zero when it says
//! nothing.

mod asked;
mod setup;
mod silent;

//! The counterexamples of the protocol model.

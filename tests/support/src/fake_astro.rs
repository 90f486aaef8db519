//! A stateful fake of the Astro API.

//! Clients during a flood: cookies, handshakes, completions, and the mitigations that they meet.

mod completions_live;
mod cookie_completion_live;
mod cookie_live;
mod firewall_live;
mod half_open;
mod handshakes_live;
mod kernel_cookies_live;
mod ladder_live;
mod packages;
mod translated_live;

//! Fleets: hosts that share evidence and rules over a real message bus, and routers that take routes from real BGP
//! speakers. Need root, bird, gobgpd, exabgp, `TCPGUARD_EXABGP`, `TCPGUARD_NATS_SERVER` and
//! `TCPGUARD_FLEET_BIN`.

mod agent_live;
mod bus_live;
mod enrolment_live;
mod hooks_live;
mod relief_live;
mod sharing_live;
mod sites_live;
mod support;
mod trust_live;

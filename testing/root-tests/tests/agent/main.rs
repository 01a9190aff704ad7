//! The agent's life: start, restart, upgrade, its state on the disk, its cost.

mod audit;
mod control_live;
mod damage;
mod degraded;
mod detach;
mod disk_live;
mod layouts;
mod lifecycle;
mod limits;
mod memory;
mod restart_live;
mod soak;
mod upgrade_live;

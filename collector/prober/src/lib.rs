//! The prober: pacing, sockets and packets of ICMP echo and TCP connect.

//! People who mean ill: what they print, what they put into a box, and for whom they speak.

mod acts;
mod drops;
mod flood;
mod fuse;
mod output;
mod servers;

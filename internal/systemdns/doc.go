// Package systemdns boots this machine's systemd as process 1 of namespaces of its
// own, with logind and a user who can log in, so that tests meet a real service
// manager and a real logout. It is for tests alone, on Linux, as root.
//
//	s := systemdns.Boot(t, dir)                     // dir is seen inside, read-only
//	out, err := s.User("systemctl", "--user", "status")
//	session, err := s.Login()                       // and session.Logout()
//	out, err := s.Root("loginctl", "terminate-user", systemdns.Name)
//
// The system's root is a copy-on-write view of the machine's, of which nothing is
// changed; its own are processes, mounts, host name, cgroups, network (a loopback
// device without a link to anywhere), /run, /tmp, /home, /dev and the units in /etc, of
// which there are none. It cannot set the clock, load modules or write to /proc/sys.
//
// When process 1 is killed the kernel kills every process of the system before its
// end is seen, and no mount outlives them. That is how it is ended, also when the
// test's process is killed; only its empty cgroups stay then, until the next Boot.
package systemdns

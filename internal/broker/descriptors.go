package broker

// descriptorsOf is how many descriptors of the process the services take at least
// while all of them are held.
func descriptorsOf(services []Service) int {
	n := 0
	for _, s := range services {
		n += 1 + len(s.Definition.Endpoints)
		if !s.Definition.Foreign {
			n++ // the control endpoint
		}
	}
	return n
}

// widen has the kernel's table of the process's descriptors hold n more of them at
// once, as far as the system has such a table and the limit allows. It blocks for some
// 10 ms if the table has to grow.
func widen(n int) { widenTable(n) }

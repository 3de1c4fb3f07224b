package explore

import "bytes"

// canon brings a state into the form that it shares with all states that differ
// in names alone: what nobody can reach is forgotten, what is left is numbered in
// a fixed order, and clients, which are all alike, are sorted if that is asked for.
func (s *state) canon(sortClients bool) {
	s.forgetGens()
	s.forgetDirs()
	s.forgetSocks()
	if sortClients {
		s.sortClients()
	}
}

// forgetGens frees what is neither alive nor on disk nor meant by anybody.
func (s *state) forgetGens() {
	var meant [numGens + 1]bool
	for i := range s.procs {
		pr := &s.procs[i]
		meant[pr.gen], meant[pr.old] = true, true
	}
	meant[s.bro.run] = true
	// What its launcher left before the fork is dead.
	for i := range s.gens {
		if g := &s.gens[i]; g.used && g.life == unspawned && !meant[i+1] {
			g.life = dead
		}
	}
	// Of a successor that has taken over, or has died, whom it succeeded matters as
	// long as that one has not seen it.
	unseen := func(old id) bool { return old != 0 && old != foreign && s.gens[old-1].alive() && s.gens[old-1].lost }
	for i := range s.gens {
		if g := &s.gens[i]; g.used && g.life != dead && (!g.wasReady || g.linked) || unseen(g.old) {
			if g.old != foreign {
				meant[g.old] = true
			}
		} else if g.old != 0 {
			if g.old = foreign; g.wasReady {
				g.old = 0
			}
		}
	}
	var number [256]id
	number[foreign] = foreign
	n := id(0)
	for i := range s.gens {
		g := &s.gens[i]
		if !g.used {
			continue
		}
		if g.life == dead {
			*g = gen{used: true, life: dead, launcher: g.launcher, onDisk: g.onDisk, pid: g.pid, backend: g.backend, old: g.old,
				wasReady: g.wasReady, tookOver: g.tookOver, phase: g.phase, failure: g.failure, launchedS: g.launchedS, failedS: g.failedS}
			if !unseen(g.old) {
				g.tookOver = false
			}
			if g.phase >= phGone || !g.pid {
				g.launcher = 0
			}
			switch {
			case !g.onDisk:
				*g = gen{used: true, life: dead}
			case g.phase == phGone:
				*g = gen{used: true, life: dead, onDisk: true, phase: phGone, old: g.old, tookOver: g.tookOver}
			case g.phase == phFailed:
				g.backend, g.pid = true, true
				if g.failure == failUnknown {
					g.failedS = 0
				}
			}
		}
		if g.life == dead && !g.onDisk && !meant[i+1] {
			number[i+1] = foreign
			*g = gen{}
			continue
		}
		n++
		number[i+1] = n
	}
	k := 0
	for i := range s.gens {
		if s.gens[i].used {
			if k != i {
				s.gens[k], s.gens[i] = s.gens[i], gen{}
			}
			k++
		}
	}
	for i := range s.gens {
		s.gens[i].old = number[s.gens[i].old]
	}
	for i := range s.procs {
		pr := &s.procs[i]
		pr.gen, pr.old, pr.before = number[pr.gen], number[pr.old], number[pr.before]
	}
	s.bro.run = number[s.bro.run]
	for i := range s.dirs {
		d := &s.dirs[i]
		d.current = number[d.current]
		if d.lock >= lockGen && d.lock < lockGen+numGens+1 {
			d.lock = lockGen + number[d.lock-lockGen]
		}
	}
}

// forgetDirs frees a directory that is neither at the path nor locked by anybody.
func (s *state) forgetDirs() {
	for i := range s.dirs {
		d := id(i + 1)
		if d == s.path {
			continue
		}
		s.dirs[i].current, s.dirs[i].holder = 0, false
		open := s.stray.dir == d
		for j := range s.procs {
			open = open || s.procs[j].dir == d
		}
		for j := range s.gens {
			open = open || s.gens[j].takeDir == d
		}
		if !open {
			s.dirs[i] = dir{}
		}
	}
}

// forgetSocks frees a socket that nobody holds; its names are stale from then on.
func (s *state) forgetSocks() {
	var number [256]id
	number[stale] = stale
	n := id(0)
	var socks [numSocks]sock
	meet := func(k *id) {
		if *k == 0 || *k == stale {
			return
		}
		if number[*k] == 0 {
			if !s.held(*k) {
				number[*k] = stale
			} else {
				n++
				number[*k] = n
				socks[n-1] = s.socks[*k-1]
			}
		}
	}
	each := func(f func(*id)) {
		for i := range s.gens {
			f(&s.gens[i].sock)
		}
		for i := range s.dirs {
			f(&s.dirs[i].sock)
			f(&s.dirs[i].keep)
		}
		f(&s.bro.held)
		f(&s.bro.inode)
		f(&s.stray.sock)
		for i := range s.procs {
			f(&s.procs[i].sock)
			f(&s.procs[i].inode)
			f(&s.procs[i].look)
		}
	}
	each(meet)
	each(func(k *id) { *k = number[*k] })
	s.socks = socks
}

// sortClients puts the clients into an order that follows from their own state and
// what the rest has to do with them; clients that are equal in that are equal.
func (s *state) sortClients() {
	var keys [numClients][]byte
	var buf [numClients][64]byte
	for c := range numClients {
		keys[c] = s.relation(c, buf[c][:0])
	}
	// Few enough for an insertion sort.
	var order [numClients]int
	for c := range order {
		order[c] = c
	}
	sorted := true
	for i := 1; i < numClients; i++ {
		for j := i; j > 0 && bytes.Compare(keys[order[j]], keys[order[j-1]]) < 0; j-- {
			order[j], order[j-1] = order[j-1], order[j]
			sorted = false
		}
	}
	if !sorted {
		s.permute(order)
	}
}

// permute renames clients: the i-th is the one that was order[i].
func (s *state) permute(order [numClients]int) {
	was := s.procs
	var to [numProcs]int
	for p := range to {
		to[p] = p
	}
	for i, c := range order {
		s.procs[i] = was[c]
		to[c] = i
	}
	mask := func(m *uint8) {
		var r uint8
		for c := range numClients {
			if *m&(1<<c) != 0 {
				r |= 1 << to[c]
			}
		}
		*m = r
	}
	owner := func(o *uint8) {
		if *o > 0 && *o <= numProcs {
			*o = uint8(to[*o-1] + 1)
		}
	}
	for i := range s.socks {
		mask(&s.socks[i].queue)
	}
	for i := range s.dirs {
		owner(&s.dirs[i].lock)
	}
	for i := range s.gens {
		g := &s.gens[i]
		mask(&g.open)
		mask(&g.launchedS)
		mask(&g.failedS)
		owner(&g.launcher)
	}
}

// relation appends all that a state has to do with one client.
func (s *state) relation(c int, b []byte) []byte {
	pr := s.procs[c]
	b = append(b, byte(pr.status), byte(pr.m.Step), pr.look, pr.dir, pr.gen, pr.sock, pr.inode, pr.before, flag(pr.conn), flag(pr.broken), flag(pr.caused))
	b = append(b, machineBytes(&pr.m)...)
	for i := range s.dirs {
		b = append(b, flag(s.dirs[i].lock == uint8(c+1)))
	}
	for i := range s.socks {
		b = append(b, s.socks[i].queue>>c&1)
	}
	for i := range s.gens {
		g := &s.gens[i]
		b = append(b, g.open>>c&1|g.launchedS>>c&1<<1|g.failedS>>c&1<<2|flag(g.launcher == uint8(c+1))<<3)
	}
	return b
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

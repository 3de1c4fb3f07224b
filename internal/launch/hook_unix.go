//go:build unix

package launch

import "context"

// prepareAid asks the hook, and takes what is to be inherited.
func (s *system) prepareAid(files []uintptr) error {
	h := s.b.Hook
	if h == nil || h.Prepare == nil || s.mode == DaemonBinds {
		return nil
	}
	aid, err := h.Prepare(Preparing{Number: s.gen.number, Dir: s.gen.dir, Addr: s.place.Addr + "/" + s.gen.name})
	if err != nil || aid == nil {
		return err
	}
	s.gen.spawning.aid = aid
	if aid.Stdin != nil {
		files[0] = aid.Stdin.Fd()
	}
	if len(aid.Lines) > 0 {
		s.gen.append(aid.Lines...)
	}
	return nil
}

// letThrough has the hook admit the process.
func (s *system) letThrough(ctx context.Context) {
	g := s.gen
	if g == nil || g.child == nil || g.child.aid == nil || g.child.aid.Admit == nil {
		return
	}
	if lines := g.child.aid.Admit(ctx, g.child.pid); len(lines) > 0 {
		g.append(lines...)
	}
}

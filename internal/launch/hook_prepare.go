//go:build unix || windows

package launch

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

// undo undoes what the hook has done for a launch that came to no process.
func (sp *spawning) undo() { sp.aid.undo() }

package run

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/polargo/polar/adapter"
)

// attach creates what trains: the pairs of an adapter, the pairs of a low-rank model, or all weights. A resumed run takes
// its variables from its newest readable checkpoint. The probe is measured between the two, at the start of training, when
// weights that are to stay in a set have been brought into it.
func (s *Session) attach(ctx context.Context) error {
	checkpoint, err := s.findCheckpoint()
	if err != nil {
		return err
	}
	switch {
	case s.Config.Lab != nil && s.Config.Lab.PairRank > 0:
		err = s.attachPairs()
	case s.Config.Rank > 0:
		err = s.attachAdapter(ctx, checkpoint)
	default:
		err = s.decoder.SetTrainable(s.store, true)
	}
	if err != nil {
		return err
	}
	if checkpoint == "" {
		if err := s.protect(); err != nil {
			return err
		}
	}
	if err := s.optimizer.Retract(s.backend, s.store); err != nil {
		return err
	}
	if err := s.probe.begin(s); err != nil {
		return err
	}
	if checkpoint == "" {
		return nil
	}
	return loadVariables(checkpoint, s.store, sameName)
}

// findCheckpoint returns the checkpoint to begin from, "" to begin at the start.
func (s *Session) findCheckpoint() (string, error) {
	if !s.Config.Resume {
		return "", nil
	}
	warn := func(text string) { s.note(true, "%s", text) }
	path, st, err := newestCheckpoint(s.Config.Out, -1, warn)
	if s.Config.Verify > 0 && err == nil {
		if path == "" {
			return "", fmt.Errorf("verify: %s has no checkpoint to compare with", s.Config.Out)
		}
		path, st, err = newestCheckpoint(s.Config.Out, max(0, st.Step-s.Config.Verify), func(string) {})
	}
	if err != nil {
		return "", err
	}
	if path == "" {
		if s.Config.Verify == 0 {
			s.note(true, "no checkpoint to go back to in %s: beginning at step 0", s.Config.Out)
		}
		return "", nil
	}
	if st.Identity != s.identity {
		return "", fmt.Errorf("%s belongs to a run with other settings", path)
	}
	s.resumed = &st
	return path, nil
}

func (s *Session) attachPairs() error {
	if err := s.decoder.SetTrainable(s.store, true); err != nil {
		return err
	}
	var err error
	s.adapter, err = adapter.NewPairs(s.store, s.decoder.Layers(), s.pairsConfig())
	return err
}

func (s *Session) pairsConfig() adapter.PairsConfig {
	lab := s.Config.Lab
	return adapter.PairsConfig{Rank: lab.PairRank, Seed: s.Config.Seed, Rescale: lab.PairScale}
}

func (s *Session) attachAdapter(ctx context.Context, checkpoint string) error {
	c := s.Config
	settings := adapter.Config{Rank: c.Rank, Alpha: c.Alpha, RSLoRA: c.RSLoRA, Init: c.Init, InitScale: c.InitScale, Targets: c.Targets, Seed: c.Seed}
	selected, err := adapter.Select(s.decoder.Layers(), c.Targets)
	if err != nil {
		return err
	}
	if err := s.decoder.SetTrainable(s.store, false); err != nil {
		return err
	}
	if checkpoint != "" {
		return s.reattach(settings, checkpoint)
	}
	defer debug.FreeOSMemory() // gradients and the factorisation's work
	var options adapter.Options
	if c.Init == adapter.InitGradient {
		if options.Gradients, err = s.initialGradients(ctx, selected); err != nil {
			return err
		}
	}
	if c.Init == adapter.InitPiSSA || c.Init == adapter.InitGradient {
		s.progress("factorise "+map[string]string{adapter.InitPiSSA: "weights", adapter.InitGradient: "gradients"}[c.Init], 0, int64(len(selected)))
	}
	s.adapter, err = adapter.New(s.store, s.decoder.Layers(), settings, options)
	return err
}

// reattach puts the pairs of a checkpoint on the base with the factors of the start, A0 and B0 (zeros where the start's
// product was zero), so that the model is the one that training began with.
func (s *Session) reattach(settings adapter.Config, checkpoint string) error {
	var err error
	if s.adapter, err = adapter.Attach(s.store, s.decoder.Layers(), settings); err != nil {
		return err
	}
	for _, name := range []func(string) string{onlyStart, startAsNow} {
		if err := loadVariables(checkpoint, s.store, name); err != nil {
			return err
		}
	}
	return s.adapter.AdjustBase()
}

// Names under which loadVariables stores a checkpoint's tensor; "" leaves it out.
func sameName(path string) string { return path }

const startScope = "/adapter0/"

func onlyStart(path string) string {
	if strings.HasPrefix(path, startScope) {
		return path
	}
	return ""
}

// startAsNow gives the start's factors to the pair that trains.
func startAsNow(path string) string {
	if rest, ok := strings.CutPrefix(path, startScope); ok {
		return "/adapter/" + rest
	}
	return ""
}

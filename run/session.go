package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gomlx/compute"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/adapter"
	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/data"
	"github.com/polargo/polar/internal/graphx"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/model/hf"
	"github.com/polargo/polar/optimizer"
	"github.com/polargo/polar/param"
	"github.com/polargo/polar/tokenizer"
)

// Session is a prepared run.
type Session struct {
	Config Config // resolved
	Plan   Plan

	sink      Sink
	backend   compute.Backend
	store     *mlmodel.Store
	decoder   *model.Decoder
	tokenizer tokenizer.Tokenizer
	chat      *tokenizer.ChatTemplate
	base      *hf.Loaded // nil when the model is trained from scratch
	corpus    *data.Corpus
	adapter   *adapter.Set // nil when all weights train
	settings  optimizer.Config
	optimizer *optimizer.Optimizer
	engine    *engine
	steps     int
	identity  string
	probe     probe
	resumed   *state // the checkpoint that the session starts from
	unlock    func() // gives the run folder up; nil while it is not held
}

// Prepare loads the model, opens the data, attaches the adapter and builds the plan. It trains nothing and writes nothing
// but caches. With Config.Resume it continues the run in Config.Out, whose settings it takes when cfg names no model, and
// holds that folder from here to Close.
func Prepare(ctx context.Context, cfg Config, sink Sink) (session *Session, err error) {
	if sink == nil {
		sink = func(Event) {}
	}
	if cfg, err = prepareConfig(cfg); err != nil {
		return nil, err
	}
	s := &Session{Config: cfg, sink: sink}
	defer func() {
		if err != nil {
			_ = s.Close()
			session = nil
		}
	}()
	if cfg.Resume { // before its checkpoints are read, and what a killed writer left is taken away
		if err := s.lock(); err != nil {
			return nil, err
		}
	}
	if s.backend, err = backend.Open(cfg.Backend); err != nil {
		return nil, err
	}
	for _, part := range []func(context.Context) error{s.openModel, s.openData, s.chooseSteps, s.checkIdentity, s.buildOptimizer, s.attach, s.buildEngine} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := graphx.Try(func() error { return part(ctx) }); err != nil {
			return nil, err
		}
	}
	return s, s.buildPlan()
}

// prepareConfig resolves and checks the settings. A resumed run without a model takes the settings it was started with.
func prepareConfig(cfg Config) (Config, error) {
	if cfg.Resume {
		if cfg.Out == "" {
			return cfg, errors.New("resume needs --out, the folder of the run to continue")
		}
		if err := cfg.checkFolder(); err != nil {
			return cfg, err
		}
		r, err := readRecord(cfg.Out)
		if err != nil {
			return cfg, err
		}
		if cfg.Model == "" && (cfg.Lab == nil || cfg.Data == "") {
			asked := cfg
			cfg = r.Config
			cfg.Out, cfg.Resume, cfg.Verify, cfg.Offline = asked.Out, true, asked.Verify, asked.Offline || cfg.Offline
			if asked.Backend != "" {
				cfg.Backend = asked.Backend
			}
		}
	}
	cfg = cfg.resolve(time.Now())
	if err := cfg.check(); err != nil {
		return cfg, errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return cfg, cfg.checkFolder()
}

func (s *Session) openModel(ctx context.Context) error {
	if s.Config.Lab != nil {
		return nil // its vocabulary comes from the data
	}
	s.progress("load "+s.Config.Model, 0, 0)
	loaded, err := hf.Load(ctx, s.Config.Model, hf.LoadOptions{
		Offline: s.Config.Offline, Revision: s.Config.Revision, NeedTokenizer: true, Backend: s.backend,
		Progress: func(what string, done, total int64) { s.progress(what, done, total) },
	})
	if err != nil {
		return err
	}
	s.base, s.store, s.decoder, s.tokenizer = loaded, loaded.Store, loaded.Decoder, loaded.Tokenizer
	if loaded.ChatTemplate != "" {
		if s.chat, err = tokenizer.ParseChatTemplate(loaded.ChatTemplate, tokenizer.Special(loaded.Tokenizer)); err != nil {
			s.note(true, "the model's chat template cannot be used: %v", err)
		}
	}
	return nil
}

func (s *Session) openData(ctx context.Context) error {
	path, note, err := data.Resolve(ctx, s.Config.Data, s.Config.Offline)
	if err != nil {
		return err
	}
	if note != "" {
		s.note(true, "%s", note)
	}
	s.Config.Data = path
	if s.Config.Lab != nil {
		if s.tokenizer, err = data.CharTokenizer(ctx, path); err != nil {
			return err
		}
	}
	if s.Config.Length == 0 {
		s.Config.Length = s.defaultLength()
	}
	if s.decoder != nil && s.Config.Length > s.decoder.Config().MaxPositions {
		return fmt.Errorf("length %d is more than the model's %d positions", s.Config.Length, s.decoder.Config().MaxPositions)
	}
	s.corpus, err = data.Open(ctx, data.Options{
		Path: path, Tokenizer: s.tokenizer, Chat: s.chat, Length: s.Config.Length, Packing: s.Config.Packing,
		TrainOnPrompt: s.Config.TrainOnPrompt, ValidationFraction: s.Config.ValidationFraction, ValidationPath: s.Config.ValidationData,
		Sampling: data.Sampling(s.Config.Sampling), Seed: s.Config.Seed, Offline: s.Config.Offline,
		Progress: func(done, total int64) { s.progress("read "+path, done, total) },
	})
	if err != nil {
		return err
	}
	for _, warning := range s.corpus.Warnings() {
		s.note(true, "%s", warning)
	}
	if s.Config.Lab != nil {
		return s.openLab()
	}
	return nil
}

func (s *Session) defaultLength() int {
	if s.Config.Lab != nil {
		return 64
	}
	return min(256, s.decoder.Config().MaxPositions)
}

// openLab builds the small transformer over the data's characters.
func (s *Session) openLab() error {
	lab := s.Config.Lab
	var err error
	cfg := model.Lab(s.tokenizer.VocabSize(), lab.Hidden, lab.Layers, lab.Heads, max(s.Config.Length, 256))
	cfg.Activation, cfg.Positions = model.Activation(lab.Activation), model.PositionKind(lab.Positions)
	if !lab.QKNorm {
		cfg.QKNorm = model.NormNone
	}
	if s.decoder, err = model.New(cfg); err != nil {
		return err
	}
	s.store = mlmodel.NewStore()
	return s.decoder.Init(s.store, s.Config.Seed)
}

// chooseSteps turns epochs into steps and fills in the intervals that follow from them.
func (s *Session) chooseSteps(context.Context) error {
	c := &s.Config
	perEpoch := s.corpus.Train().StepsPerEpoch(c.Batch)
	if c.Steps == 0 {
		c.Steps = max(1, int(c.Epochs*float64(perEpoch)+0.5))
	}
	if c.WarmupSteps == 0 {
		c.WarmupSteps = int(c.WarmupFraction * float64(c.Steps))
	}
	if c.EvalEvery == 0 {
		c.EvalEvery = max(1, c.Steps/10)
	}
	if c.SaveEvery == 0 {
		c.SaveEvery = c.EvalEvery
	}
	s.steps, s.Plan.Steps, s.Plan.StepsPerEpoch = c.Steps, c.Steps, perEpoch
	return nil
}

// checkIdentity refuses to resume a run with other settings, another base or other data than it began with.
func (s *Session) checkIdentity(context.Context) error {
	s.identity = identity(s.Config, s.baseFingerprint(), s.corpus.Fingerprint())
	if !s.Config.Resume {
		return nil
	}
	r, err := readRecord(s.Config.Out)
	if err != nil {
		return err
	}
	if differ := r.differences(s.Config, s.baseFingerprint(), s.corpus.Fingerprint()); len(differ) > 0 {
		return fmt.Errorf("cannot resume %s: it was started with other settings: %s", s.Config.Out, strings.Join(differ, ", "))
	}
	if other := otherVersions(r.Versions, versions(s.Config.Backend)); len(other) > 0 {
		s.note(true, "this is not the program that began the run (%s): its losses may differ in the last bits", strings.Join(other, "; "))
	}
	if was := r.Config.ActivationCheckpointing; was != s.Config.ActivationCheckpointing {
		s.note(true, "activation_checkpointing is %t and was %t when the run began: its losses may differ in the last bits", !was, was)
	}
	return nil
}

func (s *Session) baseFingerprint() string {
	if s.base == nil {
		return "scratch"
	}
	return s.base.Fingerprint
}

func (s *Session) buildOptimizer(context.Context) error {
	var err error
	if s.settings, err = s.Config.optimizer(); err != nil {
		return err
	}
	s.optimizer, err = optimizer.New(s.settings)
	return err
}

func (s *Session) modelOptions() model.Options {
	options := model.Options{Checkpoint: s.Config.ActivationCheckpointing}
	if s.adapter != nil {
		options.Linear = s.adapter.Linear(s.store)
	}
	return options
}

func (s *Session) buildEngine(context.Context) error {
	var err error
	s.engine, err = newEngine(s.backend, s.store, s.decoder, s.modelOptions(), s.optimizer)
	return err
}

// adapted lists the layers that an adapter changes; nil when all weights train.
func (s *Session) adapted() []param.Layer {
	if s.adapter == nil {
		return nil
	}
	return s.adapter.Layers()
}

func (s *Session) note(warning bool, format string, args ...any) {
	s.sink(Note{Text: fmt.Sprintf(format, args...), Warning: warning})
}

func (s *Session) progress(what string, done, total int64) {
	s.sink(Progress{What: what, Done: done, Total: total})
}

// Close releases the model, the data and the run folder.
func (s *Session) Close() error {
	if s.engine != nil {
		s.engine.close()
		s.engine = nil
	}
	if s.store != nil {
		s.store.Finalize()
		s.store = nil
	}
	var err error
	if s.corpus != nil {
		err = s.corpus.Close()
		s.corpus = nil
	}
	if s.backend != nil {
		s.backend.Finalize()
		s.backend = nil
	}
	if s.unlock != nil {
		s.unlock()
		s.unlock = nil
	}
	return err
}

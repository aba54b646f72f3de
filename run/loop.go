package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/data"
)

// trainer is the state of a run between two steps.
type trainer struct {
	*Session
	state      state
	metrics    *metrics
	losses     []float64 // of this session's steps
	samples    []Sampled
	checkpoint string // newest on disk
	from       int    // step that this session began at
	started    time.Time
	tokens     int64         // trained in this session
	stepping   time.Duration // spent in this session's steps
	evaluating time.Duration // of the last evaluation
	saved      [2]int        // step and evaluation of the newest checkpoint

	certificate *certificate // nil when invariance is not checked
}

// Run trains, exports and verifies the export. When ctx is cancelled it saves its state after the step at hand and
// returns ErrInterrupted. A loss or gradient that is not finite is a *NonFiniteError. With Config.Verify it replays steps
// instead and returns no result.
func (s *Session) Run(ctx context.Context) (*Result, error) {
	t := &trainer{Session: s, started: time.Now(), state: newState(s.identity), saved: [2]int{-1, -1}}
	if s.Config.Verify > 0 {
		return nil, t.verify(ctx)
	}
	if err := s.lock(); err != nil {
		return nil, err
	}
	if err := t.begin(); err != nil {
		return nil, err
	}
	defer func() { _ = t.metrics.close() }()
	defer func() { t.certificate.close() }()
	early, err := t.train(ctx)
	var result *Result
	if err == nil {
		result, err = t.finish(ctx, early)
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil, t.interrupt()
	}
	return result, err
}

// begin creates the run folder or takes up the resumed state.
func (t *trainer) begin() error {
	if !t.Config.Resume {
		if err := t.Config.checkFolder(); err != nil { // again, now that nobody else can write
			return err
		}
		r := record{Config: t.Config, Base: t.baseFingerprint(), Data: t.corpus.Fingerprint(), Identity: t.identity, Versions: versions(t.Config.Backend)}
		if err := r.writeFolder(); err != nil {
			return err
		}
	}
	lastLine := -1 // metrics of a run that begins again are begun again
	if t.resumed != nil {
		t.state, t.from = *t.resumed, t.resumed.Step
		t.checkpoint = filepath.Join(t.Config.Out, checkpointsName, checkpointName(t.from))
		t.saved = [2]int{t.state.Step, t.state.Evaluated}
		lastLine = t.from
		t.note(false, "continuing %s from step %d of %d", t.Config.Out, t.from, t.steps)
	}
	var err error
	if t.metrics, err = openMetrics(t.Config.Out, lastLine); err != nil {
		return err
	}
	return t.beginCertificate()
}

// train runs the steps that are left; early says that patience ended it.
func (t *trainer) train(ctx context.Context) (early bool, err error) {
	for {
		if err := t.milestones(ctx); err != nil {
			return false, err
		}
		switch {
		case t.state.Step >= t.steps:
			return false, nil
		case t.outOfPatience():
			t.note(false, "stopped early at step %d: no better validation loss in %d evaluations (best %.4f at step %d)",
				t.state.Step, t.state.SinceBest, t.state.BestLoss, t.state.BestStep)
			return true, nil
		case ctx.Err() != nil:
			return false, ctx.Err()
		}
		if err := t.step(t.state.Step); err != nil {
			return false, err
		}
	}
}

func (t *trainer) outOfPatience() bool {
	return t.Config.Patience > 0 && t.state.SinceBest >= t.Config.Patience
}

// milestones does what is due at the step that was reached: evaluate, sample, save. It is also the first thing that a
// resumed run does, so that an evaluation that an interrupt cut short is made up for.
func (t *trainer) milestones(ctx context.Context) error {
	c, step := t.Config, t.state.Step
	last := step == t.steps
	if (step%c.EvalEvery == 0 || last) && t.state.Evaluated != step {
		if err := t.evaluateNow(ctx); err != nil {
			return err
		}
	}
	if c.SampleEvery > 0 && step%c.SampleEvery == 0 && step > t.from && !last {
		if err := t.sample(ctx, step); err != nil {
			return err
		}
	}
	if step > 0 && (step%c.SaveEvery == 0 || last || t.state.BestStep == step || t.outOfPatience()) {
		return t.save()
	}
	return nil
}

// step takes one optimizer step, counted from 0, and reports it.
func (t *trainer) step(step int) error {
	began := time.Now()
	batch, err := t.corpus.Train().Batch(int64(step), t.Config.Batch)
	if err != nil {
		return err
	}
	if check := t.dueAt(step + 1); check != nil {
		t.engine.inspect = check
		defer func() { t.engine.inspect = nil }()
	}
	result, err := t.engine.step(batch, t.Config.Accumulate)
	if err != nil {
		return t.placed(err, step+1)
	}
	t.state.Step = step + 1
	t.state.Tokens += int64(result.weight)
	t.state.DataHash = chainHash(t.state.DataHash, batch)
	t.losses = append(t.losses, result.loss)
	t.tokens += int64(result.weight)
	elapsed := time.Since(began) - t.certificate.spent(t.state.Step)
	t.stepping += elapsed
	done := StepDone{
		Step: t.state.Step, Steps: t.steps, Loss: result.loss, GradientNorm: result.gradientNorm,
		LearningRate: t.rateAt(step), Tokens: t.state.Tokens, Seconds: elapsed.Seconds(),
		TokensPerSecond: t.tokensPerSecond(), Remaining: t.remaining(),
	}
	if err := t.metrics.add(done); err != nil {
		return err
	}
	t.sink(done)
	return nil
}

// placed adds step and checkpoint to an error about numbers.
func (t *trainer) placed(err error, step int) error {
	var bad *NonFiniteError
	if errors.As(err, &bad) {
		bad.Step, bad.LastCheckpoint = step, t.checkpoint
	}
	return err
}

// tokensPerSecond is the rate of this session's steps; evaluations and checkpoints do not count.
func (t *trainer) tokensPerSecond() float64 {
	if t.stepping <= 0 {
		return 0
	}
	return float64(t.tokens) / t.stepping.Seconds()
}

// remaining estimates the time left from the steps and the evaluation so far.
func (t *trainer) remaining() time.Duration {
	left := t.steps - t.state.Step
	evaluations := (t.steps+t.Config.EvalEvery-1)/t.Config.EvalEvery - t.state.Step/t.Config.EvalEvery
	return t.stepping/time.Duration(len(t.losses))*time.Duration(left) + t.evaluating*time.Duration(max(0, evaluations))
}

// chainHash extends a hash over batches by one: equal hashes mean equal data in equal order.
func chainHash(previous string, b data.Batch) string {
	h := sha256.New()
	_, _ = h.Write([]byte(previous))
	_, _ = h.Write([]byte(b.Hash()))
	return hex.EncodeToString(h.Sum(nil))
}

// evaluateNow measures the validation loss and keeps account of the best.
func (t *trainer) evaluateNow(ctx context.Context) error {
	step, split := t.state.Step, t.corpus.Validation()
	if split == nil || split.Rows() == 0 {
		t.state.Evaluated = step
		return nil
	}
	began := time.Now()
	total, most := split.Batches(t.rowsPerCall()), t.evaluationLimit()
	if most > 0 {
		total = min(total, most)
	}
	loss, tokens, err := t.engine.meanLoss(ctx, split.Windows(t.rowsPerCall()), most, func(done int) {
		t.progress("evaluate", int64(done), int64(total))
	})
	if err != nil {
		return fmt.Errorf("evaluate: %w", t.placed(err, step))
	}
	st := &t.state
	best := !(float64(st.BestLoss) <= loss) // also when there is none yet
	if st.SinceBest++; best {
		st.BestLoss, st.BestStep, st.SinceBest = measure(loss), step, 0
	}
	if st.LastLoss, st.Evaluated = measure(loss), step; step == 0 {
		st.StartLoss = st.LastLoss
	}
	t.evaluating = time.Since(began)
	done := EvalDone{Step: step, ValidationLoss: loss, Tokens: tokens, Best: best, Seconds: t.evaluating.Seconds()}
	if err := t.metrics.add(done); err != nil {
		return err
	}
	t.sink(done)
	return nil
}

// save writes a checkpoint unless the newest is of this state. Weights that are not finite are never saved.
func (t *trainer) save() error {
	now := [2]int{t.state.Step, t.state.Evaluated}
	if t.saved == now {
		return nil
	}
	weights, opt := t.savedVariables()
	if name := firstNonFinite(append(weights[:len(weights):len(weights)], opt...)); name != "" {
		return &NonFiniteError{Step: t.state.Step, What: "weights", Where: "tensor " + name, LastCheckpoint: t.checkpoint}
	}
	var err error
	if t.state.Weights, err = hashVariables(weights); err != nil {
		return err
	}
	if t.state.Optimizer, err = hashVariables(opt); err != nil {
		return err
	}
	path, err := writeCheckpoint(t.Config.Out, t.state, append(weights, opt...))
	if err != nil {
		return fmt.Errorf("%w; %s", err, lastGood(t.checkpoint))
	}
	t.checkpoint, t.saved = path, now
	t.sink(Saved{Step: t.state.Step, Path: path, Best: t.state.BestStep == t.state.Step})
	return pruneCheckpoints(t.Config.Out, t.state.BestStep)
}

// lastGood says what a run can be resumed from.
func lastGood(checkpoint string) string {
	if checkpoint == "" {
		return "no checkpoint was written yet"
	}
	return "the last good checkpoint is " + checkpoint
}

// savedVariables lists what a checkpoint holds: the weights that train (and the start of an adapter, which they are
// relative to), and the optimizer's state.
func (s *Session) savedVariables() (weights, opt []*mlmodel.Variable) {
	frozen := map[string]bool{}
	for _, p := range s.decoder.Parameters() {
		frozen[p.Path()] = true
	}
	for v := range s.store.IterVariables() {
		switch {
		case !v.HasValue():
		case v.Trainable, strings.HasPrefix(v.Path(), startScope):
			weights = append(weights, v)
		case !frozen[v.Path()]:
			opt = append(opt, v)
		}
	}
	return weights, opt
}

// interrupt saves what a cancelled run has.
func (t *trainer) interrupt() error {
	if t.state.Step > 0 {
		if err := t.save(); err != nil {
			return fmt.Errorf("%w, and the state could not be saved: %w", ErrInterrupted, err)
		}
	}
	return fmt.Errorf("%w at step %d of %d; the state is in %s", ErrInterrupted, t.state.Step, t.steps, t.Config.Out)
}

// rateAt is the main learning rate of a step counted from 0.
func (s *Session) rateAt(step int) float64 {
	return s.settings.LearningRate * s.settings.Schedule.At(step)
}

package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polargo/polar/internal/check"
)

// childEnv makes this test binary a training program: its value is a Config in JSON.
const childEnv = "POLAR_TEST_CHILD"

// childLimitEnv, with a number of bytes, makes writing beyond that size fail from the second checkpoint on.
const childLimitEnv = "POLAR_TEST_FILE_LIMIT"

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(text string) error {
	var cfg Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	_, _, err := execute(context.Background(), cfg, func(event Event) {
		if saved, ok := event.(Saved); ok && saved.Step > 2 {
			limitFileSize(os.Getenv(childLimitEnv))
		}
	})
	return err
}

// startChild starts a training in a process of its own.
func startChild(t *testing.T, cfg Config, env ...string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	output := &strings.Builder{}
	command := exec.Command(program)
	command.Env = append(append(os.Environ(), childEnv+"="+string(text)), env...)
	command.Stderr = output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command, output
}

// TestFullDisk: a checkpoint that cannot be written is one clear error; the one before stays, and the run resumes.
func TestFullDisk(t *testing.T) {
	if !canLimitFileSize {
		t.Skip("this system cannot limit the size of a process's files")
	}
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(300, 1)))
	command, output := startChild(t, cfg, childLimitEnv+"=3000") // metrics stay below, a checkpoint does not
	err := command.Wait()
	if err == nil {
		t.Fatal("the child wrote all its checkpoints")
	}
	mustSay(t, errors.New(strings.TrimSpace(output.String())), "save checkpoint", "file too large")
	if st := newest(t, cfg.Out); st.Step != 3 {
		t.Errorf("newest checkpoint at step %d, want 3", st.Step)
	}
	left, err := filepath.Glob(filepath.Join(cfg.Out, checkpointsName, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	want := tune(t, cfg.Model, cfg.Data)
	whole, _ := mustRun(t, want)
	result, _ := mustRun(t, Config{Resume: true, Out: cfg.Out})
	if !slices.Equal(result.Losses, whole.Losses) {
		t.Errorf("losses %v, want %v", result.Losses, whole.Losses)
	}
}

// waitForLines waits until a run has written that many more lines of metrics.
func waitForLines(t *testing.T, folder string, lines int) {
	t.Helper()
	count := func() int {
		content, _ := os.ReadFile(filepath.Join(folder, metricsFile)) // there is none at first
		return strings.Count(string(content), "\n")
	}
	end := time.Now().Add(time.Minute)
	for goal := count() + lines; count() < goal; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d lines of metrics did not come", lines)
		}
	}
}

// TestKilledTwentyTimes kills a training with SIGKILL at random moments, checks after each that no checkpoint is
// unreadable, resumes, and compares what comes out with an undisturbed run, bit for bit.
func TestKilledTwentyTimes(t *testing.T) {
	check.Long(t)
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(2000, 1)))
	cfg.Steps, cfg.SaveEvery, cfg.EvalEvery = 700, 3, 10
	want, _ := mustRun(t, cfg)
	wanted := newest(t, cfg.Out)
	cut := cfg
	cut.Out = filepath.Join(t.TempDir(), "cut")
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	steps := map[int]bool{}
	for kill := range 20 {
		command, output := startChild(t, cut)
		waitForLines(t, cut.Out, rng.IntN(30)) // 0: anywhere in the preparation
		time.Sleep(time.Duration(rng.IntN(8000)) * time.Microsecond)
		_ = command.Process.Kill()
		if err := command.Wait(); err == nil || output.Len() > 0 {
			t.Fatalf("kill %d: the child ended by itself: %v %s", kill, err, output)
		}
		path, st, err := newestCheckpoint(cut.Out, -1, func(note string) { t.Errorf("kill %d: %s", kill, note) })
		if err != nil {
			t.Fatal(err)
		}
		if path != "" {
			steps[st.Step] = true
		}
		if _, err := os.Stat(filepath.Join(cut.Out, runFile)); err == nil {
			cut = Config{Resume: true, Out: cut.Out}
		}
	}
	t.Logf("killed with checkpoints at %d different steps, the last at %d of %d", len(steps), newest(t, cut.Out).Step, cfg.Steps)
	if len(steps) < 10 {
		t.Errorf("checkpoints at %d different steps: the kills came too early to show anything", len(steps))
	}
	result, _ := mustRun(t, cut)
	got := newest(t, cut.Out)
	if !slices.Equal(result.Losses, want.Losses) || got.Weights != wanted.Weights || got.Optimizer != wanted.Optimizer || got.DataHash != wanted.DataHash {
		t.Errorf("the killed run ends at %+v with %d losses, the undisturbed one at %+v with %d", got, len(result.Losses), wanted, len(want.Losses))
	}
}

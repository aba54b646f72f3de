package cli

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/polargo/polar/run"
)

func TestCondense(t *testing.T) {
	for want, names := range map[string][]string{
		"lm_head":                           {"lm_head"},
		"model.layers.3.mlp.up_proj":        {"model.layers.3.mlp.up_proj"},
		"layers.{0..1,3}.{q,k}_proj":        {"layers.0.q_proj", "layers.0.k_proj", "layers.1.q_proj", "layers.1.k_proj", "layers.3.k_proj", "layers.3.q_proj"},
		"h.{0..1}.c_attn h.{1..2}.mlp":      {"h.0.c_attn", "h.1.c_attn", "h.1.mlp", "h.2.mlp"},
		"h.{0..1}.{c_attn,out} transformer": {"h.0.c_attn", "h.0.out", "h.1.c_attn", "h.1.out", "transformer"},
	} {
		if got := strings.Join(condense(names), " "); got != want {
			t.Errorf("%v: %s, want %s", names, got, want)
		}
	}
}

func TestSparkline(t *testing.T) {
	for _, test := range []struct {
		values []float64
		width  int
		want   string
	}{
		{nil, 5, ""}, {[]float64{1}, 5, "▁"}, {[]float64{8, 1}, 5, "█▁"}, {[]float64{1, 2, 3, 4, 5, 6, 7, 8}, 8, "▁▂▃▄▅▆▇█"},
		{[]float64{0, 2, 5, 7}, 2, "▁█"}, {[]float64{math.NaN(), 3, math.Inf(1), 1}, 9, "█▁"},
	} {
		if got := sparkline(test.values, test.width); got != test.want {
			t.Errorf("%v in %d columns: %s, want %s", test.values, test.width, got, test.want)
		}
	}
}

func TestUnits(t *testing.T) {
	for got, want := range map[string]string{
		count(999): "999", count(12_345): "12.3 k", count(134_515_008): "134.52 M", count(7e9): "7.00 G",
		size(10): "10 B", size(2500): "2.5 kB", size(1_900_000_000): "1.90 GB",
		span(850 * time.Millisecond): "850 ms", span(12 * time.Second): "12 s", span(200 * time.Second): "3 min 20 s", span(125 * time.Minute): "2 h 5 min",
		shellWord("a b"): "'a b'", shellWord("it's"): `'it'\''s'`, shellWord("runs/x-1.5"): "runs/x-1.5", shellWord(""): "''", shellWord("$HOME"): "'$HOME'",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestPreviewMarksMaskedText(t *testing.T) {
	segments := []run.PreviewSegment{{Text: "ask\nmore"}, {Text: "answer\x1b[31m", Trained: true}, {Text: ""}}
	if got, want := preview(segments, style{}), "⟦ask\nmore⟧answer�[31m"; got != want {
		t.Errorf("plain: %q, want %q", got, want)
	}
	if got, want := preview(segments, style{color: true}), "\x1b[2mask\x1b[0m\n\x1b[2mmore\x1b[0manswer�[31m"; got != want {
		t.Errorf("colour: %q, want %q", got, want)
	}
	long := preview([]run.PreviewSegment{{Text: strings.Repeat("x", previewLetters+5), Trained: true}, {Text: "y"}}, style{})
	if long != strings.Repeat("x", previewLetters)+" …" {
		t.Errorf("a long example was not cut: %d letters", len(long))
	}
}

func TestPlainProgressIsALineEveryFiveSeconds(t *testing.T) {
	var out bytes.Buffer
	clock := time.Unix(0, 0)
	p := &progress{out: &out, now: func() time.Time { return clock }}
	for step := 1; step <= 20; step++ {
		p.event(run.StepDone{Step: step, Steps: 20, Loss: 2, Remaining: time.Minute})
		clock = clock.Add(time.Second)
	}
	p.event(run.EvalDone{Step: 20, ValidationLoss: 1.5, Best: true, Seconds: 2})
	p.event(run.Sampled{Step: 20, Prompt: "To be", Text: " or\nnot"})
	p.finish()
	var want []string
	for _, step := range []int{1, 6, 11, 16, 20} {
		want = append(want, fmt.Sprintf("step %d/20  loss 2.0000", step))
	}
	mustSay(t, out.String(), append(want, "step 20  validation loss 1.5000, the best so far", "  | To be or\n  | not\n")...)
	if lines := strings.Count(out.String(), "\n"); lines != 5+1+3 {
		t.Errorf("%d lines:\n%s", lines, out.String())
	}
}

func TestTerminalProgressDrawsABarAndRemovesIt(t *testing.T) {
	var out bytes.Buffer
	p := &progress{out: &out, look: style{terminal: true}, now: time.Now}
	p.event(run.Progress{What: "read text", Done: 1, Total: 2})
	for step := 1; step <= 3; step++ {
		p.event(run.StepDone{Step: step, Steps: 3, Loss: 2})
	}
	time.Sleep(400 * time.Millisecond)                         // longer than a refresh
	p.event(run.Progress{What: "evaluate", Done: 1, Total: 4}) // not into the line that the bar is drawn on
	if p.started != "" {
		t.Errorf("%q was written over the bar", p.started)
	}
	time.Sleep(400 * time.Millisecond)
	p.event(run.Note{Text: "a line above the full bar"})
	p.finish()
	p.finish() // again does nothing
	mustSay(t, out.String(), "read text … 50 %", "step 3/3", "loss 2.0000", "evaluate … 25 %", "a line above the full bar")
}

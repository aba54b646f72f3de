package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/polargo/polar/run"
)

// text cuts the text into two halves at a line's end and writes them beside the runs. Characters that only the second half
// has are dropped from it: the base's vocabulary is that of the first.
func (q *quickstart) text(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	const least = 4000 // bytes: less leaves no validation rows
	if len(content) < least {
		return failf("", "%s has %d bytes of text; quickstart needs at least %d", path, len(content), least)
	}
	middle := len(content) / 2
	for middle < len(content)-1 && content[middle-1] != '\n' && middle < len(content)*3/4 {
		middle++
	}
	first, other := strings.ToValidUTF8(string(content[:middle]), ""), strings.ToValidUTF8(string(content[middle:]), "")
	known := map[rune]bool{}
	for _, letter := range first {
		known[letter] = true
	}
	dropped := 0
	other = strings.Map(func(letter rune) rune {
		if !known[letter] {
			dropped++
			return -1
		}
		return letter
	}, other)
	if dropped > 0 {
		q.progress.heading("%d characters of the second half are not in the base's vocabulary and are left out", dropped)
	}
	q.firstHalf, q.otherHalf = filepath.Join(q.command.Out, "first-half.txt"), filepath.Join(q.command.Out, "second-half.txt")
	if err := os.MkdirAll(q.command.Out, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(q.firstHalf, []byte(first), 0o644); err != nil {
		return err
	}
	return os.WriteFile(q.otherHalf, []byte(other), 0o644)
}

// diverged reports whether a run stopped at a number that is not finite.
func diverged(err error) bool {
	var bad *run.NonFiniteError
	return errors.As(err, &bad)
}

// stopped is how quickstart ends when a part of it is interrupted: its parts are short, so it starts again.
func (q *quickstart) stopped(err error) error {
	if errors.Is(err, run.ErrInterrupted) || errors.Is(err, context.Canceled) {
		return &problem{status: statusInterrupted, cause: fmt.Errorf("interrupted; what was done is in %s", q.command.Out), hint: "run polar quickstart again to start over"}
	}
	return err
}

// print shows the trials, the comparison, the samples and the next command.
func (q *quickstart) print(base *run.Result, trials []trial, rate float64, muon, adamw *run.Result) {
	out := q.p.stdout
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	say("\nbase: validation loss %.4f at the start, %.4f after %d steps (nats a character)", base.StartLoss, base.FinalLoss, base.Steps)
	say("  %s", sparkline(base.Losses, 60))
	say("\nlearning rates of LoRA-Muon on the rank-%d proxy, validation loss after %d steps:", q.proxyRank, q.proxySteps)
	rows := [][]string{{"rate", "loss"}}
	for _, t := range trials {
		text := t.failure
		if text == "" {
			text = loss(t.loss)
		}
		chosen := ""
		if t.rate == rate {
			chosen = "<- chosen"
		}
		rows = append(rows, []string{fmt.Sprintf("%g", t.rate), text, chosen})
	}
	table(out, rows)
	say("\nfine-tuning at rank %d on the second half, %d steps each:", q.rank, q.runSteps)
	table(out, [][]string{
		{"optimizer", "rate", "start", "best", "final", "time"},
		comparisonRow("LoRA-Muon", rate, muon), comparisonRow("AdamW", q.adamwRate, adamw),
	})
	say("  AdamW's rate is a usual one for adapters and was not searched; LoRA-Muon's was, on the proxy.")
	say("  training loss  LoRA-Muon %s", sparkline(muon.Losses, 50))
	say("  training loss  AdamW     %s", sparkline(adamw.Losses, 50))
	sample := func(name string, result *run.Result) {
		if n := len(result.Samples); n > 0 {
			say("\n%s writes:\n%s", name, indent(printable(result.Samples[n-1].Prompt+result.Samples[n-1].Text), "  | "))
		}
	}
	sample("LoRA-Muon", muon)
	sample("AdamW", adamw)
	say("\nadapter   %s", muon.Adapter)
	say("took      %s", span(time.Since(q.started).Round(time.Second)))
	say("try       %s", nextCommand(run.Config{Model: base.Model}, muon))
	say("then      polar finetune --model DIR_OR_FILE --data FILE   (a model of your own; --dry-run shows the plan)")
}

// comparisonRow is one optimizer's line of the table.
func comparisonRow(name string, rate float64, result *run.Result) []string {
	return []string{
		name, fmt.Sprintf("%g", rate), loss(result.StartLoss), loss(result.BestLoss),
		loss(result.FinalLoss), span(seconds(result.Seconds).Round(time.Second)),
	}
}

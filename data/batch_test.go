package data

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/polargo/polar/tokenizer"
)

func TestTextWindowsByHand(t *testing.T) {
	// 40 characters: 36 train, 4 held out. Rows of 3: windows at 0, 3, 6, ... (36-1)/3 = 11 of them, 2 targets left over.
	text := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"
	vocabulary, err := tokenizer.FromText(text)
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, settings(t, write(t, "a.txt", text), func(o *Options) {
		o.Tokenizer, o.Length, o.ValidationFraction = vocabulary, 3, 0.1
	}))
	if s := c.Train().Stats(); s.Rows != 11 || s.Tokens != 33 || s.Dropped != 2 {
		t.Fatalf("training part %+v, want 11 rows, 33 tokens, 2 dropped", s)
	}
	var got []string
	for b, err := range c.Train().Windows(4) {
		if err != nil {
			t.Fatal(err)
		}
		if b.Segments != nil || b.Positions != nil {
			t.Fatal("plain text has segments")
		}
		for r := range b.Rows {
			got = append(got, fmt.Sprint(c.options.Tokenizer.Decode(ints(b.Tokens[3*r:3*r+3])), ">", c.options.Tokenizer.Decode(ints(b.Targets[3*r:3*r+3])), marks(b, r)))
		}
	}
	want := []string{"abc>bcd111", "def>efg111", "ghi>hij111"}
	if !slices.Equal(got[:3], want) {
		t.Errorf("first windows %q, want %q", got[:3], want)
	}
	if len(got) != 12 || !strings.HasSuffix(got[10], "111") || !strings.HasSuffix(got[11], "000") {
		t.Errorf("last windows %q, want a twelfth of weight 0", got[10:])
	}
	for b := range c.Validation().Windows(1) {
		if got := c.options.Tokenizer.Decode(ints(b.Tokens)); got != "KLM" {
			t.Errorf("validation window %q, want KLM", got)
		}
	}
}

func ints(values []int32) []int {
	out := make([]int, len(values))
	for i, v := range values {
		out[i] = int(v)
	}
	return out
}

// TestSettingM checks the split and the validation windows of the published prototype on text of TinyShakespeare's size.
func TestSettingM(t *testing.T) {
	text := numbered(shakespeareBytes)
	vocabulary, _ := tokenizer.FromText(text)
	c := open(t, settings(t, write(t, "a.txt", text), func(o *Options) {
		o.Tokenizer, o.Length, o.ValidationFraction, o.Sampling = vocabulary, 64, 0.1, SamplingWindows
	}))
	if got := c.Validation().Rows(); got != 1742 {
		t.Errorf("%d validation windows, want 1742", got)
	}
	train := c.Train().from.(*windowSource)
	if train.end != 1003854 {
		t.Errorf("%d training tokens, want 1003854 = int(0.9 * 1115394)", train.end)
	}
	// Offsets are uniform: 64 bins over 32,768 draws; chi-squared with 63 degrees of freedom exceeds 118 once in 100,000.
	const most = 118
	var bins [64]float64
	for step := range int64(1024) {
		b := mustBatch(t, c.Train(), step, 32)
		for r := range b.Rows {
			window := vocabulary.Decode(ints(b.Tokens[r*64 : (r+1)*64]))
			at := offsetOf(t, window)
			if want := text[at+1 : at+65]; vocabulary.Decode(ints(b.Targets[r*64:(r+1)*64])) != want {
				t.Fatalf("step %d, row %d: targets are not the next characters", step, r)
			}
			bins[int64(at)*64/train.offsets()]++
		}
	}
	chi := 0.0
	for _, n := range bins {
		chi += (n - 512) * (n - 512) / 512
	}
	if chi > most {
		t.Errorf("offsets are not uniform: chi-squared %.1f, want below %d", chi, most)
	}
}

// numbered is text of n characters that tells where it is: every eight of them are the number of the first.
func numbered(n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%07d ", b.Len())
	}
	return b.String()[:n]
}

// offsetOf finds the place of a stretch of numbered text of at least 16 characters.
func offsetOf(t *testing.T, window string) int {
	t.Helper()
	space := strings.IndexByte(window, ' ')
	var at int
	if _, err := fmt.Sscanf(window[space+1:], "%07d", &at); err != nil {
		t.Fatalf("window %q: %v", window, err)
	}
	return at - space - 1
}

func TestBatchIsPure(t *testing.T) {
	var rows strings.Builder
	for i := range 57 {
		fmt.Fprintf(&rows, "{\"prompt\": \"p%d\", \"completion\": \"%s\"}\n", i, strings.Repeat("c", i%9+1))
	}
	text := write(t, "a.txt", numbered(1200))
	jsonl := write(t, "a.jsonl", rows.String())
	for name, change := range map[string]func(*Options){
		"text":    func(o *Options) { o.Path = text },
		"windows": func(o *Options) { o.Path, o.Sampling = text, SamplingWindows },
		"packed":  func(o *Options) { o.Packing, o.Length = true, 20 },
		"padded":  func(o *Options) { o.Length = 12 },
	} {
		t.Run(name, func(t *testing.T) {
			o := settings(t, jsonl, func(o *Options) { o.ValidationFraction = 0.2; change(o) })
			first := open(t, o)
			second := open(t, settings(t, "", func(p *Options) { cache := p.CacheDir; *p = o; p.CacheDir = cache }))
			other := open(t, settings(t, "", func(p *Options) { *p = o; p.Seed = 1 }))
			seen := map[string]bool{}
			var hashes []string
			for step := range int64(20) {
				h, err := first.Train().Hash(step, 2)
				if err != nil {
					t.Fatal(err)
				}
				hashes = append(hashes, h)
				seen[h] = true
			}
			if len(seen) < 18 {
				t.Errorf("20 steps gave only %d different batches", len(seen))
			}
			for _, step := range rand.New(rand.NewPCG(1, 2)).Perm(20) {
				if h, _ := second.Train().Hash(int64(step), 2); h != hashes[step] {
					t.Errorf("step %d differs between two instances", step)
				}
			}
			same := 0
			for step := range int64(20) {
				if h, _ := other.Train().Hash(step, 2); seen[h] {
					same++
				}
			}
			if same > 4 {
				t.Errorf("another seed gave %d of the same 20 batches", same)
			}
			if first.Fingerprint() != second.Fingerprint() || first.Fingerprint() == other.Fingerprint() {
				t.Error("fingerprints must agree for equal options and differ for another seed")
			}
		})
	}
}

func TestEveryRowOnceAnEpoch(t *testing.T) {
	var rows strings.Builder
	for i := range 101 {
		fmt.Fprintf(&rows, "{\"text\": \"row %03d\"}\n", i)
	}
	c := open(t, settings(t, write(t, "a.jsonl", rows.String()), func(o *Options) { o.Length = 7 }))
	const batch = 4 // does not divide 101: epochs begin inside batches
	var order []string
	for step := range int64(101) {
		b := mustBatch(t, c.Train(), step, batch)
		for r := range batch {
			order = append(order, textOf(b, b.Tokens, r))
		}
	}
	var epochs [4][]string
	for e := range epochs {
		epochs[e] = slices.Clone(order[e*101 : (e+1)*101])
	}
	if slices.Equal(epochs[0], epochs[1]) {
		t.Error("two epochs have the same order")
	}
	for e, names := range epochs {
		slices.Sort(names)
		if got := len(slices.Compact(names)); got != 101 {
			t.Errorf("epoch %d saw %d of 101 rows", e, got)
		}
	}
}

func TestBatchArguments(t *testing.T) {
	c := open(t, settings(t, write(t, "a.jsonl", `{"text": "abc"}`), nil))
	for _, bad := range []struct {
		step int64
		rows int
	}{{-1, 1}, {0, 0}, {0, -3}, {1<<63 - 1, 2}} {
		if _, err := c.Train().Batch(bad.step, bad.rows); err == nil {
			t.Errorf("step %d, rows %d: no error", bad.step, bad.rows)
		}
	}
	for _, err := range c.Train().Windows(0) {
		if err == nil {
			t.Error("Windows(0): no error")
		}
	}
	if c.Validation() != nil {
		t.Error("a validation part without a fraction")
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, settings(t, write(t, "a.txt", strings.Repeat("text ", 100)), nil)); err == nil {
		t.Error("a cancelled context opened the data")
	}
}

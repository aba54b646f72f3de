// Package feature says which instructions the kernels may use: what the processor has, or less when asked.
package feature

import (
	"fmt"
	"strings"

	"golang.org/x/sys/cpu"
)

// Level is a set of instructions that kernels are written for. A higher one includes the lower.
type Level int

// The levels.
const (
	Generic Level = iota // plain Go
	AVX2                 // AVX2 and FMA
	AVX512               // AVX-512 F, BW, CD, DQ, VL
)

var names = []string{"generic", "avx2", "avx512"}

func (l Level) String() string { return names[l] }

// Detected is the highest level that this processor and system have.
func Detected() Level {
	x := &cpu.X86
	switch {
	case x.HasAVX512F && x.HasAVX512BW && x.HasAVX512CD && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX2 && x.HasFMA:
		return AVX512
	case x.HasAVX2 && x.HasFMA:
		return AVX2
	}
	return Generic
}

// BF16 says whether a level has dot products of bfloat16 (AVX512_BF16) on this processor.
func BF16(l Level) bool { return l == AVX512 && Detected() == AVX512 && cpu.X86.HasAVX512BF16 }

// Parse returns the level called name, Detected() for "". Unknown names and levels that this processor lacks are errors.
func Parse(name string) (Level, error) {
	if name == "" {
		return Detected(), nil
	}
	for i, known := range names {
		if known != name {
			continue
		}
		if level := Level(i); level <= Detected() {
			return level, nil
		}
		return 0, fmt.Errorf("this processor has no %s (it has %s)", name, Detected())
	}
	return 0, fmt.Errorf("unknown instruction set %q: use %s", name, strings.Join(names, ", "))
}

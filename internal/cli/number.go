package cli

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parseFloat reads a number as people write it: 2e-5, 2.0E-5, .5, 1_000. It refuses NaN and infinities.
func parseFloat(text string) (float64, error) {
	plain, err := withoutUnderscores(text)
	if err != nil {
		return 0, err
	}
	value, err := strconv.ParseFloat(plain, 64)
	if err != nil || math.IsInf(value, 0) || math.IsNaN(value) {
		return 0, fmt.Errorf("want a number, got %q", text)
	}
	return value, nil
}

// parseInt reads a whole number; 1e3 and 1_000 are 1000.
func parseInt(text string) (int64, error) {
	plain, err := withoutUnderscores(text)
	if err != nil {
		return 0, err
	}
	if value, err := strconv.ParseInt(plain, 10, 64); err == nil {
		return value, nil
	}
	const exact = 1 << 53 // whole numbers up to here are exact in float64
	value, err := strconv.ParseFloat(plain, 64)
	if err != nil || value != math.Trunc(value) || math.Abs(value) > exact {
		return 0, fmt.Errorf("want a whole number, got %q", text)
	}
	return int64(value), nil
}

// withoutUnderscores drops underscores between digits; anywhere else they are errors.
func withoutUnderscores(text string) (string, error) {
	text = strings.TrimSpace(text)
	digit := func(i int) bool { return i >= 0 && i < len(text) && text[i] >= '0' && text[i] <= '9' }
	for i := range len(text) {
		if text[i] == '_' && !(digit(i-1) && digit(i+1)) {
			return "", fmt.Errorf("want a number, got %q", text)
		}
	}
	return strings.ReplaceAll(text, "_", ""), nil
}

// joinNegatives writes a negative number that follows a flag as that flag's value, --lo -0.3 as --lo=-0.3: the parser takes
// what begins with - for another flag.
func joinNegatives(args []string) []string {
	var out []string
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		if i > 0 && strings.HasPrefix(arg, "-") && strings.HasPrefix(args[i-1], "--") && !strings.Contains(args[i-1], "=") {
			if _, err := strconv.ParseFloat(arg, 64); err == nil || errors.Is(err, strconv.ErrRange) {
				out[len(out)-1] += "=" + arg
				continue
			}
		}
		out = append(out, arg)
	}
	return out
}

// fillWidthScale gives a --width-scale that stands alone, at the end or before another flag, the value rms: the parser knows
// no flags with an optional value.
func fillWidthScale(args []string) []string {
	var out []string
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		if arg == "--width-scale" && (i+1 == len(args) || strings.HasPrefix(args[i+1], "-")) {
			arg += "=rms"
		}
		out = append(out, arg)
	}
	return out
}

// Package cli is Polar's command line: it reads flags and configuration files into the configurations of the packages
// below, prints plans, progress and results, and turns errors into one line and an exit status. It holds no training logic.
//
// Main returns the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted. It prints results on stdout, progress and
// errors on stderr, and never lets a panic reach the user.
package cli

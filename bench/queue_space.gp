# The queue's file while messages go through, a panel for each backlog; `data' and `png' are given.
set terminal pngcairo size 1300,860 font "Sans,11"
set output png
set datafile separator "\t"
set style data steps
set grid ytics lt 1 lw 1 lc rgb "#d0d0d0"
set xlabel "million messages pushed"
set key outside right top
stats data using 2 skip 1 nooutput
set xrange [0:STATS_max]
set lmargin 9
mib(b) = b / 1048576.0
kib(b) = b / 1024.0
set multiplot layout 2,1 title "The queue's file, messages of 100 B" font ",14"
one = "< awk -F'\\t' '$1 == \"one\"' '".data."'"
random = "< awk -F'\\t' '$1 == \"random\"' '".data."'"
set title "A backlog of one"
stats one using (kib($5)) nooutput
set yrange [0:STATS_max * 1.2]
set ylabel "KiB"
plot one using 2:(kib($4)) lw 5 lc rgb "#bbbbbb" title "size of the file", \
     one using 2:(kib($5)) lw 2 lc rgb "#0060ad" title "on the disk (du)", \
     one using 2:(kib($3)) lw 2 lc rgb "#dd8800" title "its messages"
stats random using (mib($4)) nooutput
set yrange [0:STATS_max * 1.1]
set title "A random backlog of 0 to 100,000, drained at the end"
set ylabel "MiB"
plot random using 2:(mib($4)) lw 5 lc rgb "#bbbbbb" title "size of the file", \
     random using 2:(mib($5)) lw 2 lc rgb "#0060ad" title "on the disk (du)", \
     random using 2:(mib($3)) lw 1.5 lc rgb "#dd8800" title "its messages"
unset multiplot

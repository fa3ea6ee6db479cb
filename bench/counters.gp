# Nanoseconds of an add, a get, an add_get, one process; `data' and `png' are given.
set terminal pngcairo size 1400,640 font "Sans,11"
set output png
set datafile separator "\t"
set datafile missing "NaN"
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.9 border lc rgb "white"
set logscale y
set yrange [1:100000]
set ytics ("1 ns" 1, "10 ns" 10, "100 ns" 100, "1 us" 1000, "10 us" 10000, "100 us" 100000) nomirror
set xtics nomirror rotate by -25
set grid ytics lt 1 lw 1 lc rgb "#d0d0d0"
set key top left horizontal
set title "Counters: time a call, one process (w.c.: write\\_concurrency)"
plot data using 2:xtic(1) skip 1 lc rgb "#0060ad" title "add", \
     data using 3 skip 1 lc rgb "#009e73" title "get", \
     data using 4 skip 1 lc rgb "#dd8800" title "add\\_get, update\\_counter"

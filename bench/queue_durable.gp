# Durable appends a second by callers; `data' and `png' are given.
set terminal pngcairo size 800,560 font "Sans,11"
set output png
set datafile separator "\t"
set datafile missing "NaN"
set logscale xy
set xrange [0.8:320]
set xtics ("1" 1, "8" 8, "64" 64, "256" 256)
set xlabel "callers"
set ytics ("100" 100, "1 k" 1000, "10 k" 10000, "100 k" 100000, "1 M" 1000000)
set grid xtics ytics lt 1 lw 1 lc rgb "#d0d0d0"
set key top left
set title "Appends of 100 B a second, each acknowledged when on the disk"
plot data using 1:2 skip 1 with linespoints lw 4 pt 7 lc rgb "#0060ad" title "emmap, durability => sync", \
     data using 1:3 skip 1 with linespoints lw 2 pt 12 lc rgb "#117733" title "disk\\_log:log and sync", \
     data using 1:4 skip 1 with linespoints lw 2 pt 5 lc rgb "#888888" title "file:write and datasync, a file each", \
     data using 1:5 skip 1 with linespoints lw 2 pt 6 lc rgb "#882255" title "SQLite, WAL, FULL"

from rankbench import main

main()

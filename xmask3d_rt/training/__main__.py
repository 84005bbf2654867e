"""`python -m xmask3d_rt.training`: the same command as `xmask3d train`."""

from xmask3d_rt.training.command import main

if __name__ == "__main__":
    main()
